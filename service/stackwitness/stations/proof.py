"""Proof of possession: a compact JWS over {v, typ, stn, kid}, made with the key it speaks of."""

from emdi.encoding import b64u_decode, load_json
from emdi.errors import EmdiError
from emdi.keys import PublicKey

from stackwitness.errors import Unprocessable

PROOF_TYP = "key.proof"
HANDOVER_TYP = "key.handover"
MAX_PROOF_LENGTH = 2048


def check_proof(jws: str, public: PublicKey, *, typ: str, signed_by: str, stn: str, kid: str) -> None:
    """Check that `signed_by`'s key signed exactly {v: 1, typ, stn, kid}. Raises Unprocessable key.proof."""
    try:
        header, payload, signature = jws.split(".")
        if load_json(b64u_decode(header)) != {"alg": public.alg, "kid": signed_by, "typ": "emdi-ev+jws"}:
            raise _bad("its header names another key, algorithm or type")
        if load_json(b64u_decode(payload)) != {"v": 1, "typ": typ, "stn": stn, "kid": kid}:
            raise _bad("its payload speaks of another station or key")
        signature_is_good = public.verify(b64u_decode(signature), f"{header}.{payload}".encode("ascii"))
    except (ValueError, EmdiError) as error:
        raise _bad("it is not a compact JWS") from error
    if not signature_is_good:
        raise _bad("its signature does not verify with the key")


def _bad(why: str) -> Unprocessable:
    return Unprocessable("key.proof", "The proof of possession does not hold", detail=f"The proof fails: {why}")
