// Follows an export until it is done or has failed, then shows the page's own words for that.
export async function follow(job) {
  const state = job.dataset.state;
  if (state === "done" || state === "failed") return;
  for (let pause = 1000; ; pause = Math.min(pause * 1.4, 8000)) {
    await new Promise((resume) => setTimeout(resume, pause));
    const answer = await fetch(`/v1${job.dataset.export}`, { headers: { Accept: "application/json" } }).catch(() => null);
    if (answer && answer.ok && (await answer.json()).state !== state) {
      location.reload();
      return;
    }
  }
}
