"""Which check must find which deed, with its code and words that name the place."""

from tests.insider import deeds as do
from tests.insider.deeds import Deed, Sign
from tests.insider.key_deeds import log_a_policy_that_is_none, sign_with_the_ended_key

AT = "2026-01-02T00:17:00.000Z"
DATABASE, DISK, KEYS, BUNDLE = "database superuser", "and the disk", "stolen keys", "holds the bundle"

DEEDS = [
    Deed("edit a reading's value", DATABASE, do.edit_value, (
        Sign("fsck", "1", f"at {AT} of envelope S1/0/17: signed 52.1 (N), stored 12.0 (N)"),
        Sign("monitor", "1", f"value: station S1, SO2 at {AT}: entry"),
        Sign("new bundle", "1", f"reading {AT} SO2: value is '12.0', signed was '52.1'"),
    )),
    Deed("relabel a reading as maintenance", DATABASE, do.relabel, (
        Sign("fsck", "1", f"at {AT} of envelope S1/0/17: signed 52.1 (N), stored 52.1 (M)"),
        Sign("monitor", "1", "signs 52.1 (N), the server shows 52.1 (M)"),
    )),
    Deed("edit an entry's bytes", DATABASE, do.edit_entry, (
        Sign("fsck", "1", "the stored bytes of envelope S1/0/17 are not those that were logged"),
    )),
    Deed("edit an entry and its leaf hash", DATABASE, do.edit_entry_and_leaf, (
        Sign("fsck", "1", "the stored bytes of envelope S1/0/17 are not those that were logged"),
    )),
    Deed("edit entry, leaf and every root", DATABASE, do.edit_database_consistently, (
        Sign("fsck", "1", "the stored bytes of envelope S1/0/17 are not those that were logged"),
        Sign("log process", "log.forked", "signed:"),
    )),
    Deed("the same, and every tile on disk", DISK, do.edit_disk_too, (
        Sign("fsck", "1", "signed another tree"),
        Sign("log process", "log.forked", "signed:"),
    )),
    Deed("swap two entries", DATABASE, do.swap_entries, (
        Sign("fsck", "1", "the leaf hash of envelope S1/0/16 was edited"),
    )),
    Deed("delete a flag", DATABASE, do.delete_flag, (
        Sign("fsck", "2", "but has no row"),
        Sign("monitor", "1", "missing-flag: station S1: flag S1-"),
        Sign("new bundle", "1", "flags.csv lacks flag S1-"),
    )),
    Deed("delete a flag and its event", DATABASE, do.delete_flag_and_event, (
        Sign("fsck", "2", "flag.raised"),
        Sign("monitor", "1", "missing-flag: station S1: flag S1-"),
    )),
    Deed("delete a decision", DATABASE, do.delete_decision, (
        Sign("fsck", "2", "but has no row"),
        Sign("monitor", "1", "flag: flag S1-"),
    )),
    Deed("rewrite a decision's reason", DATABASE, do.rewrite_reason, (
        Sign("fsck", "1", "reason is"),
        Sign("new bundle", "1", "review S1-"),
    )),
    Deed("truncate the newest entries", DATABASE, do.truncate_tail, (
        Sign("fsck", "1", "the row of"),
        Sign("log process", "log.forked", "signed:"),
    )),
    Deed("sequence the history again without one envelope", DISK, do.resequence, (
        Sign("fsck", "1", "signed another tree"),
        Sign("log process", "log.forked", "signed:"),
    )),
    Deed("restore last week's backup", DATABASE, do.restore_backup, (
        Sign("fsck", "1", "the row of"),
        Sign("log process", "log.forked", "signed:"),
    )),
    Deed("switch a guard off", DATABASE, do.disable_trigger, (
        Sign("fsck", "1", "the trigger append_only_row is switched off"),
        Sign("monitor", "1", "catalog:"),
    )),
    Deed("shadow the readings by a search path", DATABASE, do.shadow_a_view, (
        Sign("fsck", "1", "search_path=before, public"),
    )),
    Deed("rewrite inserts by a rule", DATABASE, do.rewrite_inserts, (
        Sign("fsck", "1", "the rule flag.vanish was added"),
        Sign("monitor", "1", "catalog:"),
    )),
    Deed("drop a month (a chunk) of readings", DATABASE, do.drop_month, (
        Sign("fsck", "2", "has no row"),
        Sign("monitor", "1", "value: station S1, "),
    )),
    Deed("edit a station's head", DATABASE, do.edit_station_head, (Sign("fsck", "1", "9000"),)),
    Deed("raise a limit", DATABASE, do.raise_limit, (Sign("fsck", "1", "limit_value is 350.0, the event says 35.0"),)),
    Deed("swap a station's key", DATABASE, do.swap_key, (Sign("fsck", "1", "public_key"),)),
    Deed("promote an account", DATABASE, do.promote, (Sign("fsck", "1", "role is 'operator'"),)),
    Deed("move a time of receipt back an hour", DATABASE, do.backdate, (Sign("fsck", "1", "recv_ms"),)),
    Deed("accuse a station of contradicting itself", DATABASE, do.frame_station, (
        Sign("fsck", "1", "as if its station contradicted itself"),
        Sign("monitor", "1", "as if station S1 had contradicted itself"),
        Sign("new bundle", "1", "as if its station contradicted itself"),
    )),
    Deed("make a station's envelopes vanish", DATABASE, do.suppress_station, (
        Sign("fsck", "1", "vanish"),
        Sign("monitor", "1", "catalog:"),
    )),
    Deed("insert a reading signed with a stolen service key", KEYS, do.forge_reading, (
        Sign("fsck", "1", "signature"),
        Sign("monitor", "1", "signature:"),
        Sign("new bundle", "1", "signature"),
    )),
    Deed("decide with the service's key after it was changed", KEYS, sign_with_the_ended_key, (
        Sign("fsck", "1", "the service's key 'service-1' was followed by 'service-2'"),
        Sign("monitor", "1", "signature:"),
        Sign("new bundle", "1", "the service's key 'service-1' was followed by 'service-2'"),
    )),
    Deed("rotate a stolen station key before the theft is known", KEYS, do.rotate_a_stolen_key, (
        Sign("suspects", "k1-thief", "k1-thief follows k1: 3 envelopes"),
        Sign("bundle's notes", "0", "key k1-thief of station S1 follows by rotation key k1, which was compromised"),
    )),
    Deed("log a change of policy that is none", KEYS, log_a_policy_that_is_none, (
        Sign("fsck", "1", "no policy can be read from it"),
        Sign("monitor", "1", "no policy can be read from it"),
    )),
    Deed("leave a station out of a daily head", KEYS, do.hide_in_a_head, (
        Sign("fsck", "1", "head"),
        Sign("monitor", "1", "head:"),
    )),
    Deed("sign another history with the stolen log key", KEYS, do.steal_the_log_key, (
        Sign("fsck", "1", "signed another tree"),
        Sign("witness", "422", ""),
        Sign("monitor", "1", "fork:"),
        Sign("receipt", "1", "two different trees"),
    )),
    Deed("show two auditors two trees", KEYS, do.two_trees, (
        Sign("monitor", "1", "fork:"),
    )),
    Deed("serve an old checkpoint", DISK, do.serve_old_checkpoint, (
        Sign("monitor", "1", "rollback:"),
    )),
    Deed("edit a bundle of entries on disk", DISK, do.edit_bundle_on_disk, (Sign("fsck", "1", "was edited on disk"),)),
    Deed("delete the signer's memory", DISK, do.forget_what_was_signed, (
        Sign("fsck", "2", "state is gone"),
        Sign("log process", "signer.no_state", ""),
    )),
    Deed("edit the CSV in a bundle", BUNDLE, do.edit_csv, (
        Sign("old bundle", "1", f"reading {AT} SO2: value is '12.0', signed was '52.1'"),
    )),
    Deed("remove an envelope from a bundle, mend MANIFEST", BUNDLE, do.remove_envelope_from_bundle, (
        Sign("old bundle", "2", "17"),
    )),
    Deed("cut the newest envelope off a bundle", BUNDLE, do.cut_the_end_of_a_bundle, (Sign("old bundle", "2", ""),)),
]  # fmt: skip
