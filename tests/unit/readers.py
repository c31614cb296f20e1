# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Everything that others can write and Lifeboat reads, with the bounds of it; and what reads nothing of others.

`tests/unit/test_readers.py` compares it with the code, and writes docs/security.md's table from it:
`READERS_PAGE=write pytest tests/unit/test_readers.py`.

A bound names its constant: {file.py:NAME|unit}. A dataclass's default is {file.py:Class.field|unit}, a parameter's
{file.py:function(parameter)|unit}.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

ENTRIES, DEPTH = "those of its bytes", "{base/typed.py:DEPTH|n}"
DISK = "the disk's"
TOLD = (
    "{s3/client.py:CONNECT_TIMEOUT|s} to connect, {s3/client.py:READ_TIMEOUT|s} without a byte, {base/web.py:TIMES|n}"
    " times that of waiting, and 1 s for each {base/web.py:SLOWEST|b}"
)
ASKED = (
    "{s3/client.py:CONNECT_TIMEOUT|s} to connect; then {base/web.py:TIMES|n} times {s3/client.py:READ_TIMEOUT|s}, after"
    " a POST {base/web.py:TIMES_OF_POST|n} times, and 1 s for each {base/web.py:SLOWEST|b}"
)
WEB = "{base/web.py:TIMES|n} times the limit of a read, from the connection on"


@dataclass(frozen=True)
class Reader:
    """what: that is read, a row of the table. writer: who can have written it. code: the functions that read it, by
    file. through: functions that they call, in which the constants of the bounds stand. beyond: what happens then."""

    what: str
    writer: str
    code: Mapping[str, str]
    bytes: str
    entries: str
    depth: str
    seconds: str
    beyond: str
    through: Mapping[str, str] = field(default_factory=dict)


READERS = (
    Reader(
        "documents of a repository or a vault: manifests, recovery points, verifications, markers, records of copies",
        "the stack's host, the vault, anyone with a key to it",
        {
            "repository/base.py": "Repository._read Repository.source Repository._other_stacks.read marker_of",
            "repository/local.py": "LocalRepository._open",
            "repository/s3.py": "S3Repository._bytes _Past._artefacts",
            "repository/catalog.py": "_on_record",
            "repository/copies.py": "read",
            "repository/sealing.py": "_measured unseal opened opened_record _key_of",
            "repository/repositories.py": "SignedTrust._find SignedTrust._vouch SignedTrust.refused_escrow",
            "operations/escrow_record.py": "checks",
            "database/wal/send.py": "_Pass._publish",
            "mirror/follow.py": "push _Pass._close",
        },
        "{base/filesystem.py:LARGEST|b}; of a signature {repository/sealing.py:_LARGEST|b}",
        ENTRIES,
        DEPTH,
        DISK,
        "an error that names it; it is no backup, and no run ends for it but the one that asked for it",
        {"base/typed.py": "load refuse_deep"},
    ),
    Reader(
        "a span of WAL in a repository: its notes, pieces and histories of timelines",
        "the stack's host, the vault, anyone with a key to it",
        {
            "repository/base.py": "Repository.add Repository.read_note",
            "repository/notes.py": "parse outlines stored",
            "database/wal/archive.py": "Archive.ends_at",
            "repository/relay.py": "_Push._span",
            "site/point_fetch.py": "_bring_open",
        },
        "of a note {repository/base.py:_NOTE_BYTES|b}; of a file the size that the note or the manifest says",
        "{repository/notes.py:MOST_NOTES|n} notes of a span, {repository/notes.py:MOST_ENTRIES|n} files of a note",
        DEPTH,
        DISK,
        "an error that names it; what is behind it in the span is not used",
        {"base/typed.py": "load refuse_deep", "repository/notes.py": ""},
    ),
    Reader(
        "the changes of objects in such a span",
        "the stack's host, the vault, anyone with a key to it",
        {"mirror/changes.py": "lines parse_line", "site/instant.py": "_Search._objects"},
        "of a file {repository/notes.py:MOST_FILE|b}, of a line {mirror/listing.py:LONGEST|b}",
        ENTRIES,
        DEPTH,
        DISK,
        "an error that names it; the backup before stands for itself",
        {"base/typed.py": "load refuse_deep"},
    ),
    Reader(
        "WAL that pg_receivewal wrote, and histories of timelines",
        "the database server",
        {
            "database/wal/send.py": "_Pass._histories _fork",
            "database/wal/spool.py": "contents cuts header written",
        },
        "{database/wal/spool.py:MOST|b} at once, of a segment its size; of a history {wal/segments.py:HISTORY_BYTES|b}",
        "as many segments as the spool has room for",
        "none",
        DISK,
        "an error that names the file; nothing behind it is sent",
    ),
    Reader(
        "a base in a repository, and the list of relations in it",
        "the stack's host, the vault, anyone with a key to it",
        {
            "database/wal/relations.py": "parse",
            "database/wal/standing.py": "Standing.unpack",
            "database/wal/when.py": "listed",
        },
        "of the list {database/wal/relations.py:MOST_BYTES|b}; of the base none, it is streamed into a container",
        ENTRIES,
        DEPTH,
        DISK,
        "an error that names it; the container is removed, and nothing of the stack was touched",
        {"base/typed.py": "load refuse_deep"},
    ),
    Reader(
        "what a throw-away server asks of the WAL",
        "the server, which runs what a base holds",
        {"database/wal/feed.py": "Feeder._run Feeder._drain"},
        "{database/wal/feed.py:_MOST|b} of a name",
        "one at a time",
        "none",
        "none: it is waited for",
        "it is told that there is no such file",
    ),
    Reader(
        "holds of a repository",
        "the same",
        {"repository/base.py": "Repository.holds", "repository/retention.py": "hold_of"},
        "{repository/base.py:_HOLD|b}",
        "one for each name of a backup or a point",
        DEPTH,
        DISK,
        "it holds its backup for ever, and is told",
        {"base/typed.py": "load refuse_deep"},
    ),
    Reader(
        "the repository that a keeper pulls",
        "the stack's host",
        {
            "keeper/receive.py": "_Pull._check_marker _Pull._is_new _Pull._receive _hashed",
            "keeper/follow.py": (
                "_Follow._check_marker _Follow._closed _Follow._compare_last _Follow._fetch _Follow._note"
            ),
            "tools/sftp.py": "Sftp._exactly Sftp._message Sftp.__init__",
            "tools/source.py": "Directory.chunks",
        },
        "the quota; of a document {settings/parts.py:LimitSettings.manifest_bytes|b}, of its details"
        " {keeper/receive.py:_DETAILS|b}, of a message {tools/sftp.py:LARGEST|b}, of the marker"
        " {keeper/receive.py:MARKER_MOST|b}, of a note of WAL {repository/notes.py:MOST_BYTES|b}",
        "{settings/parts.py:LimitSettings.names|n} names in a folder,"
        " {settings/parts.py:LimitSettings.files|n} files in a backup,"
        " {keeper/receive.py:_NODES|n} values in a document, {tools/sftp.py:_NAMES|n} names in an answer",
        "{settings/parts.py:LimitSettings.depth|n} folders; of JSON {base/typed.py:DEPTH|n}",
        "{settings/parts.py:KeeperSettings.timeout|s} for a pull,"
        " {settings/parts.py:KeeperSettings.stall|s} without an answer",
        "the backup is not received, the stack's pull ends with an alarm; other stacks are pulled",
        {
            "keeper/receive.py": "",
            "repository/notes.py": "",
            "tools/sftp.py": "Sftp",
            "tools/source.py": "Budget Source",
            "base/typed.py": "load refuse_deep",
            "keeper/status.py": "",
            "settings/parts.py": "LimitSettings KeeperSettings",
        },
    ),
    Reader(
        "a keeper's backup on its way back to a host",
        "the keeper",
        {"site/point_fetch.py": "_bring _copied"},
        "those of the manifest",
        "{site/granted.py:_NAMES|n} names in a folder",
        "{site/granted.py:_DEPTH|n} folders",
        DISK,
        "an error; nothing is recovered",
        {"site/granted.py": ""},
    ),
    Reader(
        "a keeper's log of receipts",
        "the keeper, of what hosts sent",
        {"keeper/receipts.py": "load _record"},
        "of a line {keeper/receipts.py:LONGEST|b}; {keeper/receipts.py:MOST|b} are written",
        "as many lines as there are",
        DEPTH,
        DISK,
        "an error; nothing is pulled or pruned",
        {"base/typed.py": "load refuse_deep", "keeper/receipts.py": ""},
    ),
    Reader(
        "archives: a configuration, a directory that was encrypted, a database's directory dump, a built site",
        "the stack's host, the vault, the database's container, the commit",
        {
            "tools/tar.py": "members Member",
            "tools/age.py": "_unpack stanzas Keys.stream",
            "database/methods/logical/dump.py": "_unpack_plain",
            "frontend/builder.py": "Builder.take",
            "configuration/parts.py": "opened _Measured.read",
            "configuration/proof.py": "held_elsewhere _sealed",
            "configuration/restore.py": "artefact",
            "operations/escrow_opened.py": "_opened",
            "site/plan.py": "_opened_artefact",
        },
        "streamed; a file has the bytes that the listing says, a built site {frontend/builder.py:LARGEST_SITE|b}; of a"
        " member's header {tools/tar.py:HEADER|b}, of an encrypted file's {tools/age.py:_HEADER|b}",
        "{tools/tar.py:MEMBERS|n} files; of a built site {frontend/builder.py:MOST_FILES|n}",
        "any: no directory is entered by recursion",
        "as long as there are bytes; a build {settings/parts.py:FrontendSettings.build_timeout|s}",
        "an error that names the archive; nothing of it is placed",
        {"frontend/builder.py": "Builder"},
    ),
    Reader(
        "artefacts that are compared by SHA-256, and listings of a bucket's objects",
        "the stack's host, the vault",
        {
            "repository/checksums.py": "artefacts_in_place measure",
            "repository/base.py": "Repository.fetch.copy",
            "mirror/listing.py": "_read_with _entry Point._problem Point._plain Point.versions",
        },
        "streamed; of a line of a listing {mirror/listing.py:LONGEST|b}",
        "streamed",
        DEPTH,
        "as long as there are bytes",
        "FAIL, or an error that names the line",
        {"base/typed.py": "load refuse_deep"},
    ),
    Reader(
        "listing and secrets of a configuration's backup",
        "the stack's host, the vault",
        {"configuration/restore.py": "listing parse_listing open_secrets"},
        "{configuration/restore.py:_LIST_LIMIT|b}; of secrets {configuration/restore.py:SECRETS_LIMIT|b}",
        ENTRIES,
        DEPTH,
        DISK,
        "an error; nothing is placed",
        {"base/typed.py": "load refuse_deep"},
    ),
    Reader(
        "fingerprint, settings and globals of a database's backup",
        "the stack's host, the vault",
        {
            "database/fingerprint.py": "read facts_of globals_of",
            "database/assess.py": "_fingerprint",
            "database/cluster.py": "read of _alike",
            "database/server.py": "parsed",
            "database/wal/proof.py": "_expected",
        },
        "{database/fingerprint.py:LARGEST|b}, unpacked; of the settings {base/filesystem.py:LARGEST|b}",
        ENTRIES,
        DEPTH,
        DISK,
        "FAIL of a verification; an error before a restore begins",
        {"base/typed.py": "load refuse_deep", "base/filesystem.py": "read_file"},
    ),
    Reader(
        "what PostgreSQL answers",
        "the database's container, the owners of its tables",
        {"database/server.py": "Session._answer Session.__init__ _Rows _parsed"},
        "{database/server.py:ANSWER|b} a statement; of a row that is read alone {database/server.py:ROW|b}",
        ENTRIES,
        "what Python's parser follows, then an error",
        "{settings/config.py:Config.timeout|s} a session (`lifeboat_timeout`)",
        "an error, and the session is ended",
        {"database/server.py": "Session"},
    ),
    Reader(
        "the version in a data directory",
        "the database's container",
        {"database/majors.py": "_major_of"},
        "16 bytes",
        "1",
        "0",
        DISK,
        "what follows is not read; a pipe or a link is no version",
    ),
    Reader(
        "what a tool prints: docker, git, ssh-keygen, tar, pg_dump, pg_waldump, detect-secrets",
        "a container, a remote, an archive, a commit",
        {
            "base/pipeline.py": "_Collector _read _start Tail._take output probe",
            "configuration/scanner.py": "_scan_folder",
            "stack/compose.py": "inspect ComposeRuntime.read",
            "stack/files.py": "_secret",
            "stack/mounts.py": "_volumes",
            "configuration/services.py": "_answer",
            "operations/discover.py": "_projects survey",
            "dumps/sources.py": "_option definition",
            "database/wal/rows.py": "Rows.write",
            "wal/cuts.py": "parse Search.add",
        },
        "{base/pipeline.py:output(limit)|b}, or {base/pipeline.py:_ANSWER|b} where failure is an answer; of a line of"
        " pg_waldump {database/wal/rows.py:_ROW|b}, of"
        " errors the last {base/pipeline.py:STDERR_KEPT|b}; Compose itself may take {stack/compose.py:MOST_MEMORY|b}",
        ENTRIES,
        DEPTH,
        "{base/pipeline.py:output(timeout)|s}, or less; {base/pipeline.py:run(timeout)|s} where bytes are streamed",
        "the process and all that it started are killed; an error with its last words",
        {
            "base/pipeline.py": "output probe run Tail",
            "stack/compose.py": "ComposeRuntime",
            "base/typed.py": "load refuse_deep",
        },
    ),
    Reader(
        "files of the project: Compose files, .env, files of variables and of secrets' names",
        "the project's owner",
        {
            "backend/assess.py": "_env needed_variables",
            "stack/files.py": "_values _fragments _is_program",
            "operations/discover.py": "text_of",
            "drill/beside.py": "project_digest",
            "backend/redeploy.py": "_same keep",
        },
        "{stack/files.py:_TEXT|b}; of a name in a file {operations/discover.py:_TEXT|b}, of what a backend's"
        " recovery looks at {backend/assess.py:_TEXT|b}, of a drill's portrait {base/filesystem.py:LARGEST|b}",
        ENTRIES,
        "0",
        DISK,
        "what follows is not read; a pipe, a device or a longer file is passed over",
        {"base/filesystem.py": "read_file"},
    ),
    Reader(
        "what the services mount: names, and the first bytes of files, by which a database is known",
        "the application",
        {"stack/contents.py": "_read _head"},
        "16 bytes",
        "{stack/contents.py:ENTRIES|n} in a mount, of {stack/mounts.py:MOST|n} mounts",
        "{stack/contents.py:LEVELS|n}",
        "{stack/contents.py:SECONDS|s} for a mount, {stack/mounts.py:SECONDS|s} for all",
        "the inventory says that not all of it was read; a pipe, a device or a link is not opened",
        {"stack/contents.py": "_over _walk read", "stack/mounts.py": "of_project"},
    ),
    Reader(
        "the environment of each process, for the name of a run, where what a hook or a dump left running is ended",
        "any process of the host",
        {"stack/hook_debts.py": "_environment"},
        "{stack/hook_debts.py:_ENVIRONMENT|b}",
        "{stack/hook_debts.py:_ROUNDS|n} times each",
        "0",
        "the kernel's",
        "what follows is not looked at",
        {"stack/hook_debts.py": "end_processes"},
    ),
    Reader(
        "the stack's S3 server, or a vault, about a bucket: listings, settings, policies, identities",
        "the store's container, the vault's server",
        {
            "s3/connections.py": "_Answer._fields _Answer.body _Answer.begin",
            "s3/signed.py": "xml _error Requests.refusal Requests._send",
            "s3/listing_parser.py": "_quick",
            "s3/settings.py": "_parse_setting _parsed",
            "s3/admin.py": "Admin.import_identities",
            "s3/identities.py": "of_seaweedfs importable quotas _canonical _document _parse_entries _unzip",
            "stack/identities.py": "_SeaweedFS.export newest",
            "objects/identities.py": "_same",
        },
        "{s3/signed.py:ABOUT|b}; of identities {s3/identities.py:LIMIT|b}, packed and unpacked; of a header"
        " {s3/connections.py:_LINE|b}",
        "{s3/connections.py:_HEADERS|n} headers, {s3/connections.py:_INTERIM|n} answers before the answer,"
        " {s3/identities.py:_MANY|n} files of identities; for a keeper"
        " {settings/parts.py:StoreSettings.versions|n} versions,"
        " {settings/parts.py:StoreSettings.buckets|n} buckets",
        DEPTH + " of JSON; of XML what expat follows",
        ASKED,
        "an error that names the server",
        {
            "base/typed.py": "load refuse_deep",
            "stack/buckets.py": "_bounds",
            "settings/parts.py": "StoreSettings",
            "s3/client.py": "",
            "s3/signed.py": "Requests",
            "s3/connections.py": "Connections.request",
            "base/web.py": "Timed times_of",
        },
    ),
    Reader(
        "objects of an S3 server",
        "the store's container, the vault's server",
        {
            "s3/client.py": "_Reader._receive _Reader",
            "objects/compare.py": "digests",
            "objects/recovery.py": "_Protection._try_server",
        },
        "those that the listing says; in parts of {s3/copier.py:PART|b}, {s3/copier.py:BUDGET|b} at once",
        "1",
        "0",
        TOLD,
        "an error that names the object; it is not in the backup",
        {"s3/copier.py": "", "s3/client.py": "", "base/web.py": "Timed times_of"},
    ),
    Reader(
        "an application's endpoints and business transactions",
        "the application's container",
        {"stack/answer.py": "send ask", "drill/transaction.py": "write", "base/web.py": "_Answer.read Http.exchange"},
        "{drill/transaction.py:_LARGEST|b}; an endpoint's answer 1 MiB; of an id {drill/transaction.py:_LONGEST|b}",
        ENTRIES,
        "what Python's parser follows, then an error",
        WEB + ": {drill/transaction.py:_TIMEOUT|s} or 10 s",
        "the check fails, with the reason",
        {"drill/transaction.py": "_send", "base/web.py": ""},
    ),
    Reader(
        "a static site and its marker",
        "the site's server, the commit",
        {"frontend/site.py": "_get commit_of commit_in"},
        "{frontend/site.py:BODY_LIMIT|b}",
        ENTRIES,
        "what Python's parser follows, then no commit",
        WEB + ": {frontend/site.py:probe(timeout)|s}",
        "it tells no commit",
        {"base/web.py": "", "frontend/site.py": "probe"},
    ),
    Reader(
        "GitHub's API",
        "anyone who answers in its place",
        {"tools/github.py": "Client._send Client._write _built _message"},
        "{tools/github.py:BODY_LIMIT|b}",
        ENTRIES,
        DEPTH,
        WEB + ": {tools/github.py:TIMEOUT|s}; {tools/github.py:ATTEMPTS|n} attempts, {tools/github.py:REDIRECTS|n}"
        " redirects",
        "an error with the status",
        {"base/typed.py": "load refuse_deep", "base/web.py": "", "tools/github.py": "Client"},
    ),
    Reader(
        "Alertmanager, and what received a test alert",
        "the watching host",
        {"tools/alertmanager.py": "Client._ask Client.find", "operations/alert_test.py": "_read"},
        "{tools/alertmanager.py:_ANSWER|b}; of what arrived the last {operations/alert_test.py:_LARGEST|b}",
        ENTRIES,
        DEPTH,
        WEB + ": {tools/alertmanager.py:_TIMEOUT|s}",
        "COULD_NOT_VERIFY",
        {"base/typed.py": "load refuse_deep", "base/web.py": "", "tools/alertmanager.py": "Client"},
    ),
    Reader(
        "a dead-man's switch",
        "its server",
        {"tools/healthchecks.py": "Switch._sent"},
        "{tools/healthchecks.py:_ANSWER|b}",
        "1",
        "0",
        WEB + ": {tools/healthchecks.py:TIMEOUT|s}; {tools/healthchecks.py:PATIENCE|s} of a run in all",
        "a warning; the run goes on",
        {"base/web.py": "", "tools/healthchecks.py": "Switch"},
    ),
    Reader(
        "the receivers of lifeboat_notify: web servers, an SMTP server",
        "their servers",
        {"tools/webhooks.py": "post"},
        "{tools/webhooks.py:_ANSWER|b}",
        "1",
        "0",
        WEB + ": {tools/webhooks.py:TIMEOUT|s}; of a reply of SMTP {tools/mail.py:TIMEOUT|s};"
        " {operations/receivers.py:PATIENCE|s} of a run in all",
        "the first 400 bytes are told in status and to the others; it is told later",
        {"base/web.py": "", "operations/notify.py": "send", "tools/mail.py": "send", "tools/webhooks.py": "post"},
    ),
    Reader(
        "the log store's answer",
        "the log store",
        {"operations/shipping.py": "Store._post _items Queue.check_index"},
        "{operations/shipping.py:_ANSWER|b}",
        ENTRIES,
        "what Python's parser follows, then it is no answer",
        "{operations/shipping.py:_PATIENCE|s} for a piece, {operations/shipping.py:_LONGEST|s} for all of it",
        "the lines wait, at most {operations/shipping.py:_WAITING|b}",
        {"operations/shipping.py": "Queue Store"},
    ),
    Reader(
        "lines of the log that are shipped or judged",
        "every program of the host, by syslog; containers, by what tools say",
        {
            "operations/shipping.py": "document again Queue.__init__",
            "operations/schedule.py": "_lines",
            "base/ecs.py": "read",
        },
        "the last {operations/schedule.py:_LARGEST|b}; {operations/shipping.py:_REFUSED|b} that the store refuses",
        ENTRIES,
        "what Python's parser follows, then a line of text",
        DISK,
        "older lines are not judged; a line that is none of Lifeboat's is text",
        {"operations/shipping.py": "Queue", "operations/schedule.py": "_lines"},
    ),
    Reader(
        "evidence of a recovery or a drill",
        "the stack's host",
        {"evidence/store.py": "_read _log_problem"},
        "{evidence/store.py:LARGEST|b}; of its log {base/filesystem.py:LARGEST|b}",
        ENTRIES,
        DEPTH,
        DISK,
        "it is shown as a record that cannot be read, and is no pass",
        {"base/typed.py": "load refuse_deep", "base/filesystem.py": "read_plain"},
    ),
    Reader(
        "names of processes and control groups, and labels of containers",
        "a container",
        {
            "backend/host.py": "owner _text listeners _memory docker_root",
            "objects/condition.py": "_deleted_bytes",
            "base/pipeline.py": "started",
            "operations/schedule.py": "_runs_now",
            "backend/space.py": "logs free",
        },
        "those of the kernel; of a container's description {base/filesystem.py:LARGEST|b}",
        "the processes that there are",
        "what Python's parser follows, then it is passed over",
        DISK,
        "it is passed over; what is shown is escaped",
        {"base/filesystem.py": "read_file"},
    ),
    Reader(
        "an application's files, with its SQLite databases",
        "the application's containers",
        {
            "files/backup.py": "_Work._beside_database _Work._content _Work._database _Work._stored _Work._unchanged",
            "files/contents.py": "_copy _log_in_use check_database copied_digest digest is_database read_pieces",
            "files/restore.py": "_contents",
            "files/rewrites.py": "_blocks _is_noise",
            "drill/faults/files.py": "_flip",
        },
        "those that the file system says, {files/contents.py:CHUNK|b} at once; read whole up to"
        " {files/backup.py:_SMALL|b}",
        "those that there are, one at a time",
        "{files/walk.py:DEPTH|n} directories",
        "{files/contents.py:_LOCKED|s} for a database that is locked; else the disk's",
        "the file is named, and is not in the backup",
        {"files/walk.py": "walk"},
    ),
    Reader(
        "the listing and the packs of a files backup",
        "the stack's host, anyone with a key to the vault",
        {
            "files/headers.py": "_Blocks.take members",
            "files/listing.py": "Row.entry Row.path Rows._ahead",
            "files/packs.py": "listed opened sparse_pieces.number",
            "files/proof.py": "_check_earlier _digest",
            "files/restore.py": "_filled _filled_sparse",
        },
        "a line of a listing {files/listing.py:_LINE|b}; a member's header {files/headers.py:RECORDS|b}; the map of a"
        " sparse file {files/packs.py:_MAP|b}; of contents the size that the listing says",
        "{files/packs.py:_MEMBERS|n} of a pack",
        DEPTH,
        DISK,
        "an error that names the backup; nothing is put into its place",
        {"base/typed.py": "load refuse_deep", "files/headers.py": "_member", "files/packs.py": "_members"},
    ),
    Reader(
        "the dumps and the facts of a dumps backup",
        "the stack's host, anyone with a key to the vault",
        {"dumps/facts.py": "facts_from opened read_facts", "dumps/proof.py": "_archive"},
        "of the facts {dumps/facts.py:_MOST_FACTS|b}; of a dump {base/pipeline.py:CHUNK|b} at once",
        ENTRIES,
        DEPTH,
        DISK,
        "an error that names the backup; the living server is not touched",
        {"base/typed.py": "load refuse_deep"},
    ),
    Reader(
        "what was in a vault at the last look, on the operator's machine",
        "this user's own programs",
        {"operations/escrow_look.py": "_read"},
        "{operations/escrow_look.py:MOST|b}",
        ENTRIES,
        DEPTH,
        DISK,
        "an error that names it",
        {"base/typed.py": "load refuse_deep"},
    ),
)

# What reads nothing that others wrote, by the reason.
OWN = {
    "root's own files of the stack, in a directory that only root may enter; a link, a pipe and more than 64 MiB are"
    " refused all the same where they are read by read_plain()": {
        "command/shipped.py": "run",
        "database/aside.py": "_manifest",
        "database/wal/receiver.py": "enabled",
        "database/wal/send.py": "ledger",
        "repository/relay.py": "Relay.known",
        "drill/ledger.py": "keep start _holder acknowledged _read",
        "evidence/signed.py": "remembered",
        "keeper/following.py": "followed",
        "keeper/receive.py": "_Pull._begin",
        "keeper/unfinished.py": "begun",
        "mirror/follow.py": "ledger",
        "mirror/state.py": "State.read_copies Journal.read",
        "objects/proof.py": "Turns._known _Which.done",
        "objects/put_back.py": "_kept_before",
        "objects/spool.py": "_Files.ask _copy_out read _entries",
        "operations/clocks.py": "pruned_at read_hidden",
        "operations/continuous.py": "differs _try_again",
        "operations/glances.py": "_recall",
        "operations/metrics.py": "_recall",
        "operations/notify.py": "_trouble memory",
        "operations/preflight.py": "shared",
        "operations/runs.py": "_begun read",
        "operations/schedule.py": "_file _timers",
        "recovery/state.py": "stopped remembered _stored",
        "repository/repositories.py": "HostMemory.remembered SignedTrust._adoption SignedTrust._read _signed",
        "settings/config.py": "_read",
        "stack/hook_debts.py": "_read",
        "stack/hook_watcher.py": "start _configure watch",
        "stack/judged.py": "require _judged",
        "tools/age.py": "HostKeys.all HostKeys.text",
        "tools/timers.py": "load read",
        "vault/endpoints.py": "remembered",
        "vault/writer.py": "remembered",
        "base/lock.py": "_holder",
        "modules/drill_fault.py": "work",
        "modules/schedule.py": "text",
    },
    "the operator's own, or of the controller and this collection": {
        "command/cli.py": "_adopt",
        "command/recover.py": "_more",
        "command/report.py": "differing",
        "configuration/parts.py": "site_commit",
        "lookup/known_variables.py": "LookupModule.run",
        "modules/agent.py": "ask packed built made_key main",
        "operations/escrow_kit.py": "identity _json",
        "plugin_utils/answers.py": "_unquoted",
        "site/scope.py": "_system",
    },
    "it starts a program whose words nobody reads": {
        "database/wal/receiver.py": "start", "stack/standstill.py": "still",
    },
    "the kernel's own words": {
        "base/clock.py": "start",
        "base/filesystem.py": "disk_of is_mounted",
        "database/wal/watch.py": "started",
        "stack/service.py": "_read",
    },
    "streamed in pieces from a file that this run wrote or unpacked, and parsed by nobody": {
        "backend/redeploy.py": "_put_file",
        "files/listing.py": "Spool.__init__ Spool.backwards Spool.rows",
        "configuration/judge.py": "_holds",
        "configuration/parts.py": "bundle",
        "database/methods/logical/proof.py": "_plain_archive",
        "database/methods/logical/restore.py": "open_plain",
        "module/placing.py": "Placing.file",
        "repository/s3.py": "S3Repository._facts _measure",
        "site/files.py": "_place_entry",
        "tools/age.py": "_count",
        "tools/signature.py": "check",
        "tools/tar.py": "Packer._read",
        "base/pipeline.py": "_Feeder.run reading",
    },
    "it writes, or its name is that of a parser": {
        "database/methods/logical/dump.py": "_globals",
        "mirror/follow.py": "_Pass._read_trail",
        "mirror/listing.py": "_packed",
        "objects/choose.py": "Instants._read",
        "s3/bucket.py": "_pages",
        "s3/identities.py": "packed",
        "s3/inventory.py": "Inventory.__init__",
        "tools/tar.py": "Packer.__init__",
    },
    "a fault of a drill, in a lab or where an operator confirmed it: it destroys what it reads": {
        "drill/faults/backend.py": "lose_environment",
        "drill/faults/database.py": "corrupt",
        "drill/faults/service.py": "noise",
    },
    "the bounded way itself: its callers are listed": {
        "base/filesystem.py": "read_plain read_file", "base/typed.py": "load",
    },
}  # fmt: skip
