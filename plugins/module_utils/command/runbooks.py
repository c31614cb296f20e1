# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The runbook of each alert in each language: docs/alerts.md as `make docs` writes it here. Changes are lost.

A section begins with the alert's name, its severity and where its command is typed. `<stack>` is the stack's name.
"""

from __future__ import annotations

SECTIONS = {
    "en": """\
## LifeboatWatchdog none the host that watches

It always fires. It proves that Prometheus evaluates the rules and that Alertmanager sends. Route it to \
something outside of this host that tells you when it stops coming. If that told you: look at Prometheus \
first, then at Alertmanager, then at the network.

    amtool alert query alertname=LifeboatWatchdog

## LifeboatStackAbsent critical the stack's host, as root

No host tells anything of a stack that the inventory has. The host is down, node_exporter is, the metrics \
were never written, or the stack has another name now. On the host:

    lifeboat metrics --stack <stack>

## LifeboatMetricsOld critical the stack's host, as root

The file is there and is no longer renewed. Until it is, every other figure of the stack is old. The job that \
writes it every minute does not run, fails, or the disk is full. The command says which:

    lifeboat metrics --stack <stack>

## LifeboatFactsUnreadable warning the stack's host, as root

`collector` says which facts are missing: `repository` (the backups), `history` (what needs all of them: so \
many were never read that the runs of half an hour did not suffice, or the job does not run every minute), \
`evidence`, `runs`, `unfinished`, `mount`, `retention`, `database`, `status` (the vault and the database were \
asked), `space`, `quarantine`, `clock`, `certificates`. They are left out and not guessed. The command that \
shows the same facts says why they cannot be read:

    lifeboat status --stack <stack>
    lifeboat list --stack <stack>
    lifeboat quarantine --stack <stack>

## LifeboatDutyUnknown warning the stack's host, as root

There is a limit for a duty, and no time at which it was last done. Either the facts cannot be read (then \
LifeboatFactsUnreadable says so too), or, for `escrow`, the key was never shown to open a backup.

    lifeboat status --stack <stack>

## LifeboatStatusOld warning the stack's host, as root

Once an hour the vault, the database server and the engine are asked, and what they say is remembered. That \
job does not run or fails. What is told of copies, quarantine, clocks and certificates is as old as the alert \
says.

    lifeboat metrics --ask --stack <stack>

## LifeboatBackupStale critical the stack's host, as root

The newest good backup of the component is older than `lifeboat_alarms.backup_age_hours`. Look at how the \
last runs ended, then take one by hand:

    grep ERROR /var/log/lifeboat/<stack>.log | tail
    lifeboat backup database --stack <stack>

## LifeboatChangesBehind critical the stack's host, as root

The changes of objects (docs/continuous.md) between two backups are not written down any more: the store, the \
vault or the repository does not answer, a look takes longer than it may, or a bucket changed so much while \
it was looked at. The log says which:

    lifeboat changes status --stack <stack>
    journalctl -u lifeboat-changes-<stack>.service -n 50
    lifeboat changes look --now --stack <stack>

The next look that ends well finds all that changed meanwhile, but what was written and deleted again.

## LifeboatRecoveryPointStale critical the stack's host, as root

The backups are there and no recovery point ties them, or the newest cannot be used.

    lifeboat list --component point --stack <stack>
    lifeboat backup --stack <stack>

## LifeboatCopyStale critical the stack's host, as root

The repository has newer backups than the vault, by this host's own record. If the host is lost now, what is \
newer is lost with it. The next backup sends what is missing; the command says why it could not:

    lifeboat backup --stack <stack>

## LifeboatWalNotOffHost critical the stack's host, as root

What was committed is in the repository of this host, and not in the vault. `wal off the host` says since \
when, and what failed last: the vault is away, its key was changed, the link is slower than what is written \
(`lifeboat_wal.bandwidth`), or a span here is damaged, which the check names. The sender goes on by itself, \
the oldest first. Where `wal behind` has failed too, nothing reaches the repository either: mend that first.

    lifeboat wal status --stack <stack>
    lifeboat wal send --stack <stack>

## LifeboatWalCheckFailed critical the stack's host, as root

A check of `lifeboat wal status` has failed for five minutes. The database goes on: what is written waits, \
first in the spool, then in the server, up to the limit of each.

* `wal behind`: the sender does not reach the repository. It is full, it is away, or the timer is stopped. \
Make room or mount it: the   sender goes on by itself, the oldest first. * `wal receiver`: nothing receives, \
or somebody else has the slot: `journalctl -u lifeboat-wal-<stack>`. Stop the other one. * `wal slot`: the \
server has given the slot up, will do so soon, or has no limit for it. A receiver that runs makes a lost slot \
again; a   gap is left. * `wal spool`: half of its limit waits to be sent. At the limit the receiver stops, \
and the server keeps the WAL. Mend `wal behind`. * `wal base`, `wal gaps`: no base leads on to what is \
received, as after a gap. The sender has one taken; by hand: `lifeboat wal base`.

    lifeboat wal status --stack <stack>

## LifeboatVerificationOverdue warning the stack's host, as root

No restore proved a backup that is young enough (`lifeboat_alarms.proof_age_days`). Restore the newest ones:

    lifeboat verify --stack <stack>

## LifeboatDrillOverdue warning the controller; HOST is the stack's host, without confirm it shows the plan

No drill of the scenario passed within `lifeboat_alarms.drill_age_days`, or none ever did. A drill breaks \
things on purpose, and only on a host that is marked for it: drills (docs/drills.md).

## LifeboatEscrowOverdue warning the stack's host, as root

It is too long ago (`lifeboat_alarms.escrow_age_days`) that the key from its safe place opened a backup. \
Fetch it and show that it does:

    lifeboat escrow --stack <stack>

## LifeboatRetentionOverdue warning the stack's host, as root

Retention was not applied for eight days. Nothing is lost by that, but the disk fills. Lifeboat deletes \
nothing where the clock may be wrong, or backups are missing. Where another host prunes, silence this alert \
for the stack.

    lifeboat prune --dry-run --stack <stack>

## LifeboatDutyOverdue warning the stack's host, as root

A duty that has no alert of its own yet was not done in time. Its name and what it is of are in the alert.

    lifeboat status --stack <stack>

## LifeboatRepositoryNotKnown critical the stack's host, as root

The repository's directory is missing, is an empty mount point, or has the marker of another repository than \
the one that the host used before: its disk is not mounted, or another disk is. Until the right one is back, \
no backup is taken and nothing is deleted. Mount it (`mount`, `/etc/fstab`, `dmesg`), then:

    lifeboat status --stack <stack>

The check `repository` says which path it is. If the repository was replaced for good, see Repository \
(docs/repository.md).

## LifeboatRunFailed warning the stack's host, as root

The last run of this kind ended with another exit code than 0 (exit codes (docs/troubleshooting.md)). 8 means \
that the backup is good and its copy or retention failed. The next run that ends well resolves it.

    grep ERROR /var/log/lifeboat/<stack>.log | tail

## LifeboatBackupKilled critical the stack's host, as root

A backup began and never ended: the kernel killed it for memory, somebody typed `kill -9`, or the host went \
down. Nothing of it counts. If it was memory, look at what else ran then. Take another one; its end resolves \
the alert:

    journalctl -k --grep 'oom|killed' --since -1d
    lifeboat backup --stack <stack>

## LifeboatRunsFailing warning the stack's host, as root

At least two runs of this kind failed within a day, and good ones came between them or after them. \
LifeboatRunFailed ends with the next good run; this one ends when a day has passed with one failure at most. \
The log says what they failed of:

    grep ERROR /var/log/lifeboat/<stack>.log | tail

## LifeboatRunLong warning the stack's host, as root

A backup goes on, or the last one went on, for half an hour more than three times the usual (the median of \
two weeks). It waits for a lock in the database, for a slow disk or a slow vault, or there is much more to do \
than there was. The next one of the usual length ends the alert.

    tail /var/log/lifeboat/<stack>.log
    ps -ef | grep lifeboat

## LifeboatDatabaseDown critical the controller; HOST is the stack's host, without confirm it shows the plan

The database does not take connections for three minutes: its service does not run, is starting, or is \
silent. It is asked once a minute by `pg_isready`, where it runs. If somebody stopped it, start it again. \
Otherwise look at the plan of a recovery, which says what is wrong; nothing happens without `confirm` (on the \
controller):

    ansible-playbook -i inventories/mine lifeboat.dr.recover_database -e target=HOST

## LifeboatNewestBackupBad critical the stack's host, as root

The newest backup is damaged, lacks something, failed a verification, or could not be read. A recovery uses \
the one before it. The list says what is wrong:

    lifeboat list --component database --stack <stack>

## LifeboatVerdictNotPass critical the stack's host, as root

The newest record of this kind and scenario has the verdict FAIL, COULD_NOT_VERIFY or ABORTED. The record \
says which check, and what was expected and found. One that passes resolves it.

    lifeboat report --stack <stack>

## LifeboatStatusNotPassed warning the stack's host, as root

One check of `lifeboat status` did not pass when it was last asked. The check itself says what is wrong and \
what to do.

    lifeboat status --stack <stack>

## LifeboatCopiesMissing critical the stack's host, as root

The vault was asked for two hours, and backups or recovery points are missing there or are others than were \
sent, or it did not answer. The command says which. The next backup sends what is missing. If the copies were \
whole yesterday, find out who removed them: break-in (docs/runbook-break-in.md).

    lifeboat status --stack <stack>

## LifeboatSecretsReadable warning the stack's host, as root

`/etc/lifeboat/<stack>.secrets.json` can be read or changed by others than root: somebody changed its mode. \
Make it private. Who was on the host meanwhile may have read it: give the secrets in it new values and deploy.

    chmod 0600 /etc/lifeboat/<stack>.secrets.json
    lifeboat metrics --ask --stack <stack>

## LifeboatSizeDrop critical the stack's host, as root

The newest good backup has less than half of the median of the seven before it. Look whether the data is \
really gone: an emptied database is backed up without an error. If it is: recover (docs/runbook-database.md) \
from an earlier one. If it is right so, the alert ends when smaller backups are the rule.

    lifeboat list --stack <stack>

## LifeboatBackupGrown warning the stack's host, as root

The newest backup stands for more than three times the median of those before it, and for 100 MB more at \
least. An import, a log in a table, or somebody who fills the disk: look at what has grown. It ends when the \
backups before it are as large:

    lifeboat status --stack <stack>
    lifeboat list --stack <stack>

## LifeboatUnprotectedData warning the stack's host, as root

The server or the store has databases or buckets that the newest backup does not hold. Add them to the \
inventory, or exclude them by name, and deploy: variables (docs/variables.md).

    lifeboat status --stack <stack>

## LifeboatMountUnprotected warning the stack's host, as root

The services mount a volume or a directory that nobody protected and nobody excluded by name \
(docs/variables.md), or that could not be looked at. `unprotected` counts the first, `unknown` the second. \
What is in it does not come back after a total loss. `lifeboat status` names each with the databases in it, \
under `mounts`.

A volume or a directory with the application's files: add it to `lifeboat_files.sources`. The data of another \
database server: add that to `lifeboat_dumps.sources` (docs/dumps.md). A file of the configuration: add it to \
`lifeboat_config.files`. What needs no backup: name it in `lifeboat_mounts.exclude`, with the reason. Then \
deploy, and take a backup that knows of it.

    lifeboat status --stack <stack>
    lifeboat backup config --stack <stack>
    lifeboat metrics --ask --stack <stack>

## LifeboatQuarantineOld info the stack's host, as root

A recovery moved data aside more than 30 days ago. Nothing removes it by itself. If nobody needs it any more, \
the list has the command that removes it.

    lifeboat quarantine --stack <stack>

## LifeboatDiskSpace critical the stack's host, as root

Less than three times the largest backup is free. The next backups will fail. Free space, or apply the \
retention:

    lifeboat prune --stack <stack>

## LifeboatDiskFull warning the stack's host, as root

If the backups go on growing as they did, the disk is full within 30 days. Enlarge it, or shorten the \
retention (docs/retention.md).

    lifeboat checklist --period weekly --stack <stack>

## LifeboatClockWrong warning the stack's host, as root

The clock of the host differs by more than a minute from that of a server that keeps its backups, or is ahead \
of Prometheus. Retention counts in dates and refuses to delete by a wrong clock. Correct the one that is \
wrong:

    timedatectl status

## LifeboatKeeperAbsent critical the keeper, as root

The keeper (docs/keeper.md) of a stack tells nothing: its host is down, node_exporter is, or the job that \
writes the file does not run. On the keeper:

    systemctl status lifeboat-keeper-<stack>-metrics.timer
    lifeboat keeper metrics --stack <stack>

## LifeboatKeeperMetricsOld warning the keeper, as root

The keeper's file is there and is no longer renewed. The same commands say why.

    lifeboat keeper metrics --stack <stack>

## LifeboatKeeperPullStale critical the keeper, as root

The keeper did not see all that the stack's host has for longer than `lifeboat_keeper.silent_hours`. On the \
keeper:

    journalctl -u lifeboat-keeper-<stack>.service -n 50
    sudo -u keeper-<stack> lifeboat keeper pull --stack <stack>

## LifeboatKeeperBehind critical the keeper, as root

No note of WAL (docs/keeper.md) came for ten minutes, and one comes every five minutes also from a quiet \
stack. Either nothing is sent on the stack's host (`lifeboat wal status` there), or the keeper cannot read \
it: `behind` in its status says what the last run met. Nothing is deleted here meanwhile. On the keeper:

    journalctl -u lifeboat-keeper-<stack>-follow.service -n 50
    sudo -u keeper-<stack> lifeboat keeper follow --stack <stack>

## LifeboatKeeperAlarm critical the keeper, as root

`kind` is one of the keeper's alarms (docs/keeper.md), which says what it means and what to do. Look at the \
stack's host before you acknowledge: `strange`, `fewer` and `shrunk` are what a break-in \
(docs/runbook-break-in.md) looks like from outside.

    sudo -u keeper-<stack> lifeboat keeper status --stack <stack>

## LifeboatKeeperCheckFailed critical the keeper, as root

A check of the keeper's own failed. `log`: the log of receipts was changed or cannot be read, and nothing is \
pulled or pruned until that is cleared up. `checksums`: a backup of the keeper's is not what came. \
`repository`: it cannot be read. `store key`: the key that the keeper reads the stack's store with can also \
write there; give it one that only reads (docs/keeper.md), and pull. `objects`, `source versions`: the mirror \
of the object store.

    sudo -u keeper-<stack> lifeboat keeper status --stack <stack>

## LifeboatKeeperQuota warning the keeper, as root

More than 90 % of `lifeboat_keeper.quota` are used. Raise it and run `lifeboat.dr.keeper`, or shorten the \
retention (docs/retention.md). Find out first whether the stack grew, or something strange came.

    sudo -u keeper-<stack> lifeboat keeper status --stack <stack>

## LifeboatCertificateEnds warning the stack's host, as root

The certificate of an address that the stack uses, or that is asked from outside, ends within 14 days. Renew \
it there. `exporter at …` is what Prometheus asks on the stack's host or its keeper \
(`monitoring_agent_certificate`): once it has ended, nothing more is heard from there. Afterwards:

    lifeboat metrics --ask --stack <stack>

## LifeboatEndpointDown critical the controller; HOST is the stack's host, without confirm it shows the plan

The host that watches asked an address of the application (`monitoring_server_endpoints`) as a user does, and \
for three minutes got no answer with a status 2xx, or a certificate that it does not trust. If other \
addresses of this host answer, the application is down: the runbook (docs/runbook-backend.md); the command \
shows the state and the plan, and changes nothing. If none of several stacks answers, look at the host that \
watches and its network: `systemctl status prometheus-blackbox-exporter` there.

    ansible-playbook -i inventories/mine lifeboat.dr.recover_backend -e target=HOST

""",
    "ja": """\
## LifeboatWatchdog none 監視ホスト

常に発火します。Prometheus がルールを評価し、Alertmanager \
が送信していることの証明です。このホストの外にあり、届かなくなったときに知らせる仕組みへ送ってください。その仕\
組みから知らせが来たら、Prometheus、Alertmanager、ネットワークの順に確認します。

    amtool alert query alertname=LifeboatWatchdog

## LifeboatStackAbsent critical スタックのホスト（root）

インベントリにあるスタックについて、どのホストからも情報が来ていません。ホストか node_exporter \
が停止している、メトリクスが一度も書かれていない、またはスタックの名前が変わったのいずれかです。ホスト上で:

    lifeboat metrics --stack <stack>

## LifeboatMetricsOld critical スタックのホスト（root）

ファイルはありますが、更新されていません。更新されるまで、このスタックの他の数値はすべて古いものです。毎分書き\
込むジョブが動いていないか、失敗しているか、ディスクが一杯です。次のコマンドが原因を示します:

    lifeboat metrics --stack <stack>

## LifeboatFactsUnreadable warning スタックのホスト（root）

`collector` は欠けている情報の種類です: `repository`（バックアップ）、`history`（すべてのバックアップを必要と\
する数値。未読のものが多く 30 分の実行では読み終わらなかったか、毎分のジョブが動いていません）、`evidence`、`r\
uns`、`unfinished`、`mount`、`retention`、`database`、`status`（保管庫とデータベースへの問い合わせ）、`space`\
、`quarantine`、`clock`、`certificates`。欠けた数値は推測せず、出力しません。同じ情報を表示するコマンドが、読\
めない理由を示します:

    lifeboat status --stack <stack>
    lifeboat list --stack <stack>
    lifeboat quarantine --stack <stack>

## LifeboatDutyUnknown warning スタックのホスト（root）

期限が設定されている作業について、最後に実施した時刻がありません。情報が読めない場合は \
LifeboatFactsUnreadable も発火します。`escrow` \
では、鍵でバックアップを開けることが一度も示されていない場合もあります。

    lifeboat status --stack <stack>

## LifeboatStatusOld warning スタックのホスト（root）

1 時間ごとに保管庫、データベースサーバー、エンジンへ問い合わせ、結果を記憶しています。そのジョブが動いていない\
か、失敗しています。コピー、隔離、時計、証明書についての情報は、アラートが示す時間だけ古いものです。

    lifeboat metrics --ask --stack <stack>

## LifeboatBackupStale critical スタックのホスト（root）

コンポーネントの最新の正常なバックアップが `lifeboat_alarms.backup_age_hours` \
より古くなっています。最後の実行がどう終わったかを確認し、手動で取得します:

    grep ERROR /var/log/lifeboat/<stack>.log | tail
    lifeboat backup database --stack <stack>

## LifeboatChangesBehind critical スタックのホスト（root）

バックアップの間のオブジェクトの変更 (docs/ja/continuous.md)が記録されなくなっています。ストア、保管庫、リポジ\
トリのいずれかが応答しないか、一回の確認に時間がかかりすぎているか、確認中にバケットが大きく変わりました。どれ\
であるかはログが示します:

    lifeboat changes status --stack <stack>
    journalctl -u lifeboat-changes-<stack>.service -n 50
    lifeboat changes look --now --stack <stack>

次に正常に終わった確認が、その間の変更をすべて見つけます。ただし、書かれてすぐに削除されたものは見つかりません\
。

## LifeboatRecoveryPointStale critical スタックのホスト（root）

バックアップはありますが、それらを結び付ける復旧ポイントがないか、最新のものが使えません。

    lifeboat list --component point --stack <stack>
    lifeboat backup --stack <stack>

## LifeboatCopyStale critical スタックのホスト（root）

このホストの記録によれば、リポジトリには保管庫より新しいバックアップがあります。いまホストを失うと、その差分も\
失われます。次のバックアップが不足分を送信します。送信できなかった理由は次のコマンドが示します:

    lifeboat backup --stack <stack>

## LifeboatWalNotOffHost critical スタックのホスト（root）

コミットされた内容はこのホストのリポジトリにありますが、保管庫にはありません。いつからか、直近に何が失敗したか\
は `wal off the host` が示します: 保管庫に届かない、鍵が変わった、書き込みに対して回線が遅い（`lifeboat_wal.ba\
ndwidth`）、またはこのホストのスパンが壊れている（チェックがその名前を示します）。送信は古いものから自動で続き\
ます。`wal behind` も失敗している場合はリポジトリにも届いていません。先にそちらを直します。

    lifeboat wal status --stack <stack>
    lifeboat wal send --stack <stack>

## LifeboatWalCheckFailed critical スタックのホスト（root）

`lifeboat wal status` のチェックが5分間失敗しています。データベースは動き続けます。書き込まれた内容は、まずス\
プールに、次にサーバーに、それぞれの上限まで残ります。

* `wal behind`: 送信がリポジトリに届いていません。満杯、届かない、またはタイマーが止まっています。空きを作るか\
マウントすると、送信は古いものから自動で続きます。 * `wal receiver`: \
受信していないか、ほかの受信側がスロットを使っています: `journalctl -u \
lifeboat-wal-<stack>`。もう一方を止めます。 * `wal slot`: \
サーバーがスロットを失った、まもなく失う、または上限がありません。動いている受信側が失われたスロットを作り直し\
、欠落が残ります。 * `wal spool`: 上限の半分が送信を待っています。上限に達すると受信側は止まり、WAL \
はサーバーに残ります。`wal behind` を直します。 * `wal base`、`wal gaps`: 欠落の後など、受信した WAL \
につながるベースがありません。送信側が取得させます。手動では `lifeboat wal base`。

    lifeboat wal status --stack <stack>

## LifeboatVerificationOverdue warning スタックのホスト（root）

十分に新しいバックアップが、リストアで検証されていません（`lifeboat_alarms.proof_age_days`）。最新のものをリス\
トアして検証します:

    lifeboat verify --stack <stack>

## LifeboatDrillOverdue warning コントローラー。HOST はスタックのホスト。confirm \
を付けなければ計画だけを表示します

シナリオの訓練が `lifeboat_alarms.drill_age_days` \
以内に合格していないか、一度も合格していません。訓練は意図的に障害を起こします。訓練用と指定されたホストだけが\
対象です: 訓練 (docs/ja/drills.md)。

## LifeboatEscrowOverdue warning スタックのホスト（root）

保管場所の鍵でバックアップを開けることを最後に示してから、時間が経ちすぎています（`lifeboat_alarms.escrow_age_\
days`）。鍵を取り出し、開けることを示します:

    lifeboat escrow --stack <stack>

## LifeboatRetentionOverdue warning スタックのホスト（root）

保持期間の適用が 8 日間行われていません。失われるものはありませんが、ディスクが埋まります。時計が誤っている可\
能性がある場合やバックアップが欠けている場合、Lifeboat \
は何も削除しません。別のホストが削除を担う場合は、そのスタックについてこのアラートをサイレンスにします。

    lifeboat prune --dry-run --stack <stack>

## LifeboatDutyOverdue warning スタックのホスト（root）

専用のアラートがまだない作業が、期限内に実施されていません。名前と対象はアラートに示されます。

    lifeboat status --stack <stack>

## LifeboatRepositoryNotKnown critical スタックのホスト（root）

リポジトリのディレクトリがないか、空のマウントポイントであるか、ホストがこれまで使っていたものとは別のリポジト\
リのマーカーがあります。ディスクがマウントされていないか、別のディスクがマウントされています。正しいディスクが\
戻るまで、バックアップは取られず、何も削除されません。ディスクをマウントし（`mount`、`/etc/fstab`、`dmesg`）、\
次を実行します。

    lifeboat status --stack <stack>

どのパスかは `repository` のチェックが示します。リポジトリを恒久的に置き換えた場合はリポジトリ \
(docs/repository.md)を参照してください。

## LifeboatRunFailed warning スタックのホスト（root）

この種類の最後の実行が 0 以外の終了コードで終わりました（終了コード (docs/ja/troubleshooting.md)）。8 \
は、バックアップは正常で、コピーまたは保持期間の適用に失敗したことを意味します。次の実行が正常に終われば解消し\
ます。

    grep ERROR /var/log/lifeboat/<stack>.log | tail

## LifeboatBackupKilled critical スタックのホスト（root）

バックアップが始まり、終わりませんでした。カーネルがメモリー不足で強制終了したか、誰かが `kill -9` \
を実行したか、ホストが停止しました。その分は数えられません。メモリー不足なら、同じ時刻に何が動いていたかを確認\
します。もう一度バックアップを取ると、その終了でアラートは解消します。

    journalctl -k --grep 'oom|killed' --since -1d
    lifeboat backup --stack <stack>

## LifeboatRunsFailing warning スタックのホスト（root）

1 日の間に、この種類の実行が 2 回以上失敗し、その間か後に正常な実行がありました。LifeboatRunFailed \
は次の正常な実行で解消しますが、これは失敗が 1 日に 1 回以下になると解消します。失敗の理由はログにあります:

    grep ERROR /var/log/lifeboat/<stack>.log | tail

## LifeboatRunLong warning スタックのホスト（root）

バックアップが、通常（2 週間の中央値）の 3 倍に 30 \
分を加えた時間より長く続いている、または前回がそうでした。データベースのロック、遅いディスクや保管庫を待ってい\
るか、処理する量が大きく増えています。次のバックアップが通常の長さで終われば解消します。

    tail /var/log/lifeboat/<stack>.log
    ps -ef | grep lifeboat

## LifeboatDatabaseDown critical コントローラー。HOST はスタックのホスト。confirm \
を付けなければ計画だけを表示します

データベースが 3 分間、接続を受け付けていません。サービスが動いていないか、起動中か、応答がありません。毎分、\
そのホストで `pg_isready` により確認しています。誰かが止めたのなら起動します。そうでなければ、復旧の計画が原因\
を示します。`confirm` を付けるまで何も変更しません（コントローラーで実行）:

    ansible-playbook -i inventories/mine lifeboat.dr.recover_database -e target=HOST

## LifeboatNewestBackupBad critical スタックのホスト（root）

最新のバックアップが破損している、何かが欠けている、検証に失敗した、または読めません。復旧には 1 \
つ前のものを使います。一覧が理由を示します:

    lifeboat list --component database --stack <stack>

## LifeboatVerdictNotPass critical スタックのホスト（root）

この種類とシナリオの最新の記録の判定が FAIL、COULD_NOT_VERIFY、ABORTED \
のいずれかです。どのチェックか、何を期待し何が見つかったかは記録にあります。合格した記録が残れば解消します。

    lifeboat report --stack <stack>

## LifeboatStatusNotPassed warning スタックのホスト（root）

最後の問い合わせで、`lifeboat status` のチェックの 1 \
つが合格しませんでした。何が問題で何をすべきかは、チェック自体が示します。

    lifeboat status --stack <stack>

## LifeboatCopiesMissing critical スタックのホスト（root）

保管庫に 2 時間問い合わせた結果、バックアップまたは復旧ポイントが欠けているか、送信したものと異なるか、保管庫\
が応答しません。どれであるかは次のコマンドが示します。欠けているものは次のバックアップが再送します。昨日まで揃\
っていた場合は、誰が削除したかを調べてください: 侵入 (docs/ja/runbook-break-in.md)。

    lifeboat status --stack <stack>

## LifeboatSecretsReadable warning スタックのホスト（root）

`/etc/lifeboat/<stack>.secrets.json` を root \
以外が読んだり変更したりできます。誰かがモードを変えました。非公開に戻してください。その間にホストにいた人は読\
んだかもしれません。中の秘密を新しい値にして deploy します。

    chmod 0600 /etc/lifeboat/<stack>.secrets.json
    lifeboat metrics --ask --stack <stack>

## LifeboatSizeDrop critical スタックのホスト（root）

最新の正常なバックアップが、それ以前の 7 個の中央値の半分未満です。データが本当に失われたかを確認してください\
。空になったデータベースもエラーなしでバックアップされます。失われた場合は以前のバックアップから復旧 \
(docs/ja/runbook-database.md)します。正しい変化であれば、小さいバックアップが続くとアラートは終わります。

    lifeboat list --stack <stack>

## LifeboatBackupGrown warning スタックのホスト（root）

最新のバックアップが、それまでの中央値の 3 倍より大きく、100 MB \
以上増えています。データの取り込み、テーブルに書かれるログ、またはディスクを埋めようとする誰かです。何が増えた\
かを確認してください。それまでのバックアップも同じ大きさになれば解消します:

    lifeboat status --stack <stack>
    lifeboat list --stack <stack>

## LifeboatUnprotectedData warning スタックのホスト（root）

サーバーまたはストアに、最新のバックアップに含まれないデータベースまたはバケットがあります。インベントリに追加\
するか、名前で除外し、deploy してください: 変数 (docs/variables.md)。

    lifeboat status --stack <stack>

## LifeboatMountUnprotected warning スタックのホスト（root）

サービスがマウントするボリュームまたはディレクトリのうち、誰も保護せず、名前で除外 \
(docs/variables.md)もしていないもの（`unprotected`）、または調べられなかったもの（`unknown`）があります。全損\
の場合、その中身は戻りません。`lifeboat status` の `mounts` \
が、それぞれの名前と、その中のデータベースを示します。

アプリケーションのファイルがあるボリュームやディレクトリは `lifeboat_files.sources` \
に、ほかのデータベースサーバーのデータはそのサーバーを `lifeboat_dumps.sources` (docs/ja/dumps.md) \
に、設定のファイルは `lifeboat_config.files` に追加します。バックアップが不要なものは、理由とともに \
`lifeboat_mounts.exclude` に書きます。その後 deploy し、バックアップを取ります。

    lifeboat status --stack <stack>
    lifeboat backup config --stack <stack>
    lifeboat metrics --ask --stack <stack>

## LifeboatQuarantineOld info スタックのホスト（root）

復旧が 30 日以上前に退避したデータが残っています。自動では削除されません。不要であれば、一覧に削除コマンドがあ\
ります。

    lifeboat quarantine --stack <stack>

## LifeboatDiskSpace critical スタックのホスト（root）

空き容量が最大のバックアップの 3 倍未満です。次のバックアップは失敗します。空きを作るか、保持期間を適用します:

    lifeboat prune --stack <stack>

## LifeboatDiskFull warning スタックのホスト（root）

バックアップがこれまでと同じように増えると、30 日以内にディスクが一杯になります。ディスクを拡張するか、保持期\
間 (docs/retention.md)を短くします。

    lifeboat checklist --period weekly --stack <stack>

## LifeboatClockWrong warning スタックのホスト（root）

ホストの時計が、バックアップを保管するサーバーの時計と 1 分以上ずれているか、Prometheus \
より進んでいます。保持期間は日付で数え、誤った時計では削除しません。誤っている方を修正します:

    timedatectl status

## LifeboatKeeperAbsent critical キーパー（root）

スタックのキーパー (docs/ja/keeper.md)から情報が来ていません。キーパーのホストか node_exporter \
が停止しているか、ファイルを書くジョブが動いていません。キーパー上で:

    systemctl status lifeboat-keeper-<stack>-metrics.timer
    lifeboat keeper metrics --stack <stack>

## LifeboatKeeperMetricsOld warning キーパー（root）

キーパーのファイルはありますが、更新されていません。次のコマンドが原因を示します:

    lifeboat keeper metrics --stack <stack>

## LifeboatKeeperPullStale critical キーパー（root）

`lifeboat_keeper.silent_hours` より長い間、キーパーはスタックのホストのすべてを確認できていません。キーパー上\
で:

    journalctl -u lifeboat-keeper-<stack>.service -n 50
    sudo -u keeper-<stack> lifeboat keeper pull --stack <stack>

## LifeboatKeeperBehind critical キーパー（root）

10 分間、WAL (docs/ja/keeper.md) のノートが届いていません。静かなスタックからも 5 \
分ごとに一つ届きます。スタックのホストで何も送られていないか（そこでの `lifeboat wal \
status`）、キーパーがそれを読めないかです。直近の実行で起きたことは、キーパーの状態の `behind` \
が示します。その間、ここでは何も削除しません。キーパー上で:

    journalctl -u lifeboat-keeper-<stack>-follow.service -n 50
    sudo -u keeper-<stack> lifeboat keeper follow --stack <stack>

## LifeboatKeeperAlarm critical キーパー（root）

`kind` はキーパーの警報 (docs/ja/keeper.md)の種類です。意味と対処はそこにあります。確認済みにする前に、スタッ\
クのホストを調べてください。`strange`、`fewer`、`shrunk` は、侵入 \
(docs/ja/runbook-break-in.md)を外から見たときの兆候です。

    sudo -u keeper-<stack> lifeboat keeper status --stack <stack>

## LifeboatKeeperCheckFailed critical キーパー（root）

キーパー自身のチェックが失敗しました。`log`: 受領ログが変更されたか、読めません。解決するまで取得も削除も行わ\
れません。`checksums`: キーパーのバックアップが、届いたときのものと異なります。`repository`: \
読めません。`objects`、`source versions`: オブジェクトストアのミラーの問題です。`store key`: \
キーパーがスタックのストアを読む鍵で、書き込みもできます。読むことだけができる鍵 \
(docs/ja/keeper.md)に替え、取得を実行してください。

    sudo -u keeper-<stack> lifeboat keeper status --stack <stack>

## LifeboatKeeperQuota warning キーパー（root）

`lifeboat_keeper.quota` の 90 % 以上を使っています。値を上げて `lifeboat.dr.keeper` を実行するか、保持期間 \
(docs/retention.md)を短くしてください。その前に、スタックが大きくなったのか、不審なものが届いたのかを確認して\
ください。

    sudo -u keeper-<stack> lifeboat keeper status --stack <stack>

## LifeboatCertificateEnds warning スタックのホスト（root）

スタックが使うアドレス、または外部から問い合わせるアドレスの証明書が 14 \
日以内に失効します。そのサーバーで更新してください。`exporter at …` は、スタックのホストまたはキーパーで \
Prometheus が問い合わせる先（`monitoring_agent_certificate`）です。失効すると、そこからは何も届かなくなります\
。その後:

    lifeboat metrics --ask --stack <stack>

## LifeboatEndpointDown critical コントローラー。HOST はスタックのホスト。confirm \
を付けなければ計画だけを表示します

監視ホストがアプリケーションのアドレス (`monitoring_server_endpoints`) \
へ利用者と同じように問い合わせましたが、3 分間、2xx の応答が得られないか、証明書を信頼できませんでした。このホ\
ストの他のアドレスが応答する場合は、アプリケーションが停止しています: 手順書 \
(docs/ja/runbook-backend.md)。次のコマンドは状態と計画を表示するだけで、何も変更しません。複数のスタックがどれ\
も応答しない場合は、監視ホストとそのネットワークを調べてください: 監視ホストで `systemctl status \
prometheus-blackbox-exporter`。

    ansible-playbook -i inventories/mine lifeboat.dr.recover_backend -e target=HOST

""",
}
