"""README.txt of every bundle: how to verify it by other means than ours."""

README = """Stackwitness export bundle

What: readings as the stations signed them, the flags raised on them, what inspectors decided, who saw and
exported them, and the proof that none of it was changed or left out after it was logged.

1. WITH THE PROGRAM OF THE PROJECT (Python 3.11+; it brings the package cryptography; no server, no secret)

    pip install stackwitness
    stackwitness-verify bundle.zip --policy policy.txt

Give your own copy of the log's policy, got from somebody you trust, not the one in this bundle. The program
says step by step what it checked, what it could not check and what all this does not prove.

2. ONE SIGNATURE WITH OPENSSL ALONE (OpenSSL 3, unzip, dd, grep, cut, tr; POSIX shell)

The file entries.bin holds records: index (8 bytes, big-endian), length (2 bytes), entry. An entry is the bytes
45 4D 44 01, one byte of kind (01 a station's envelope, 02 an event), the time of receipt (8 bytes, Unix ms) and
a JWS in compact form: base64url(header).base64url(payload).base64url(signature). Its texts are plain, so that
grep finds them. Unpack, and put the first envelope and the event that registered its key into files:

    # begin: openssl
    unzip -q -o bundle.zip -d bundle
    # every JWS of the bundle, one a line
    LC_ALL=C grep -a -o -E 'eyJ[A-Za-z0-9_-]+\\.eyJ[A-Za-z0-9_-]+\\.[A-Za-z0-9_-]{86}' bundle/entries.bin > all.jws
    # base64url to bytes
    plain() { tr '_-' '/+' | sed -e 's/$/===/' -e 's/^\\(\\(....\\)*\\)=*$/\\1/' | openssl base64 -d -A; }
    # the first envelope: its header names the type and the key
    while read -r jws; do
      printf '%s' "$jws" | cut -d . -f 1 | plain > header.json
      if grep -q emdi-rd header.json; then break; fi
    done < all.jws
    kid=$(grep -o '"kid":"[^"]*"' header.json | cut -d '"' -f 4)
    alg=$(grep -o '"alg":"[^"]*"' header.json | cut -d '"' -f 4)
    # the event that registered this key holds its public half
    while read -r event; do
      printf '%s' "$event" | cut -d . -f 2 | plain > event.json
      if grep -q -E '"typ":"key\\.(register|rotate)"' event.json && grep -q "\\"kid\\":\\"$kid\\"" event.json; then break; fi
    done < all.jws
    grep -o '"public_b64u":"[^"]*"' event.json | cut -d '"' -f 4 | plain > key.raw
    # what is signed is the text before the last dot; the signature is 64 bytes
    printf '%s' "${jws%.*}" > signed.txt
    printf '%s' "${jws##*.}" | plain > signature.raw
    # a public key file is a fixed prefix before the raw key
    if [ "$alg" = Ed25519 ]; then
      { printf '\\060\\052\\060\\005\\006\\003\\053\\145\\160\\003\\041\\000'; cat key.raw; } > key.der
      openssl pkeyutl -verify -pubin -inkey key.der -keyform DER -rawin -in signed.txt -sigfile signature.raw
    else
      { printf '\\060\\131\\060\\023\\006\\007\\052\\206\\110\\316\\075\\002\\001\\006\\010\\052\\206\\110\\316\\075\\003\\001\\007\\003\\102\\000'; cat key.raw; } > key.der
      # ES256 gives r and s of 32 bytes each; openssl wants them as a DER sequence of two integers
      r=$(dd if=signature.raw bs=32 count=1 2>/dev/null | od -A n -v -t x1 | tr -d ' \\n')
      s=$(dd if=signature.raw bs=32 skip=1 count=1 2>/dev/null | od -A n -v -t x1 | tr -d ' \\n')
      printf 'asn1=SEQUENCE:two\\n[two]\\nr=INTEGER:0x%s\\ns=INTEGER:0x%s\\n' "$r" "$s" > signature.cnf
      openssl asn1parse -genconf signature.cnf -noout -out signature.der
      openssl dgst -sha256 -binary signed.txt > digest.raw
      openssl pkeyutl -verify -pubin -inkey key.der -keyform DER -in digest.raw -sigfile signature.der
    fi
    # end: openssl

openssl says "Signature Verified Successfully". The payload is readable: printf '%s' "$jws" | cut -d . -f 2 | plain

3. WITH PYTHON, WITHOUT OUR PACKAGES

    # begin: python
    import base64, hashlib, io, zipfile
    archive = zipfile.ZipFile("bundle.zip")
    for line in archive.read("MANIFEST").decode().splitlines():
        digest, size, name = line.split("  ")
        data = archive.read(name)
        assert len(data) == int(size) and hashlib.sha256(data).hexdigest() == digest, name
    text = archive.read("checkpoint").decode().split("\\n\\n")[0].split("\\n")
    size, root = int(text[1]), base64.b64decode(text[2])
    entries, stream = {}, io.BytesIO(archive.read("entries.bin"))
    while head := stream.read(10):
        entries[int.from_bytes(head[:8], "big")] = stream.read(int.from_bytes(head[8:], "big"))
    for line in archive.read("proofs.txt").decode().splitlines():
        idx, *path = line.split(" ")
        here, last = int(idx), size - 1
        node = hashlib.sha256(b"\\0" + entries[here]).digest()
        for item in map(base64.b64decode, path):  # RFC 9162 2.1.3.2
            if here & 1 or here == last:
                node = hashlib.sha256(b"\\1" + item + node).digest()
                while not here & 1 and here:
                    here, last = here >> 1, last >> 1
            else:
                node = hashlib.sha256(b"\\1" + node + item).digest()
            here, last = here >> 1, last >> 1
        assert node == root and last == 0, idx
    print(len(entries), "entries are in the log of size", size)
    # end: python

4. WITH GO

`checkpoint` is a signed note: note.Open of golang.org/x/mod/sumdb/note with note.NewVerifier of the log's vkey in
your policy; tlog.CheckRecord of golang.org/x/mod/sumdb/tlog checks a line of proofs.txt: record hash
tlog.RecordHash(entry), tree size and root from the checkpoint.

THE OTHER FILES

scope.json says what was asked for. readings.csv, flags.csv, reviews.csv, custody.csv are tables of what entries.bin
holds (.parquet: the same rows). disclosures.jsonl has the texts that this requester may read; the events hold
SHA-256(salt, text). heads/<size> are lines of heads of the log (the last envelope of each station, the last event
of each subject), <size>.proof their paths to the root in the event head.daily. MANIFEST has the SHA-256 of each
file, export.jws, an event of the same log, names MANIFEST, and bundle.note is signed over it by the export key.
Without export.jws the bundle is of a log that has ended: the last entry, number <size> - 1 of checkpoint, is the
event log.freeze, so no event could name the bundle.
"""
