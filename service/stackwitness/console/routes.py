"""All pages of the console. None is part of the machine interface, so none stands in the API description."""

from fastapi import APIRouter

from stackwitness.console import act_pages, flag_pages, home, station_pages
from stackwitness.console.assets import load_assets

# A wheel with another uPlot than the reviewed one stops the server here, at start.
load_assets()

router = APIRouter(include_in_schema=False)
for pages in (home, station_pages, flag_pages, act_pages):
    router.include_router(pages.router, include_in_schema=False)
