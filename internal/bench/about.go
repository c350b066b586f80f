package bench

// aboutFailover is what both sections of fail-over share.
const aboutFailover = `Each of the three pairs of hosts keeps a VIP of its own on one LAN:

- **zklvs**: two directors, lease 3 s (the default) unless the case says 1 s, one ZooKeeper server on a second network.
- **keepalived, notes**: Debian's keepalived as the exercise's notes configure it: VRRP version 2, an advertisement a second, master of priority 100, backup of 50.
- **keepalived, tuned**: the same with VRRP version 3 and an advertisement each 100 ms.

%s

A client on the LAN sends an ICMP echo request to the VIP every 2 ms, by its own ARP cache as any program would, and asks by ARP who has the VIP every 2 ms (10 ms in
user-mode Linux, where a question to all hosts costs about a millisecond of its one CPU). For each of the three alike:

- *taken over after*: from just before the fault until the client first hears the next host claim the VIP, by an answer or by an announcement.
- *no answer for*: the longest time without an echo reply, from the sending of an answered request until the arrival of the answer to the next one that was answered, between the fault and one
  second after the take-over. The interval of 2 ms and the way there and back are part of it.
- *two hosts answer for*: the time in which one ARP request was answered by two hosts, from the fault until it was repaired one second after the take-over; where the fault heals (SIGSTOP, host cut off),
  until all was as before. "≥": it went on until the repair.

After SIGKILL and SIGSTOP the kernel of keepalived's host goes on answering, and forwarding, for ever: its clients see two hosts, and no gap. So *no answer for* is short there, and *taken over after* is when
the second host joins in.

Faults strike the holder, at a random moment within a second, when the other host stands by:

- *SIGKILL*, *SIGSTOP*: of zklvs's director process, whose guard lives on%s; of all processes of keepalived.
- *planned stop*: SIGTERM of the main process, as ` + "`systemctl stop`" + ` does.
- *host cut off*: its port is taken out of the LAN, and for zklvs also out of the network of ZooKeeper; the carrier stays. zklvs has lease 1 s here, its shortest.

In each round of a case the three take turns.`

const (
	behindIPVS = `Behind each VIP is an HTTP service with two real servers (direct routing, ` + "`rr`" + `, an HTTP check each 5 s).`
	behindHost = `The VIPs have no services behind them, so that no IPVS is needed; of keepalived only VRRP runs.`
	bothToo    = ` unless the case says that both were struck`
)

const aboutSwitchover = `The hosts of the section above, all directors with scheduler ` + "`mh`" + ` and ` + "`net.ipv4.vs.sloppy_tcp=1`" + `, which lets a director forward connections whose beginning it has not seen: zklvs sets it by
default, the harness sets it for keepalived. A client sends HTTP requests to the VIP, one every 8 ms, each on a fresh connection, as many at a time as it takes; one of two nginx
answers through IPVS (direct routing). Amid each thousand requests the holder is stopped in a planned way (SIGTERM) and started again 2 s later: 10 runs are 10 switchovers in 10,000 requests.

- *requests lost in a switchover*: requests that were under way at any time from SIGTERM until the daemon's start, and got a refusal, a reset, or no whole answer within 10 s. One that TCP's
  retransmissions bring through late is not lost.
- *requests late in a switchover*: of those that were answered, the ones that took longer than 500 ms.
- *slowest request of a switchover*: of those that were answered. TCP sends a lost SYN again after 1 s.
- *requests lost besides*: all others, among them those that keepalived's master costs when it takes back the VIP.`

const aboutConnections = `What the change of holder costs connections that stand. Two pairs of hosts, each with a VIP of its own and an HTTP service with two nginx behind it (direct routing):

- **zklvs**: two directors with the defaults, lease 3 s: connection synchronization and the recommended ` + "`net.ipv4.vs.*`" + ` settings are part of them.
- **keepalived, sync daemon**: the notes' configuration and ` + "`lvs_sync_daemon`" + `, which the notes do not have.

A client holds a long exchange: one connection with a request each 50 ms. It opens 80 more, 10 a second, each of which asks once and is then silent. When the last one stands the holder is struck, as in
[failover](failover.md). One second after the other host has the VIP all 80 ask again, and have 20 s for an answer, TCP's retransmissions included.

- *connections lost*: those that got a reset or no answer, by their age when the holder was struck.
- *long exchange lost*: 1 if it ended.
- *longest pause of the long exchange*: between two answers of it, the interval of 50 ms included; a multiple of TCP's retransmission timer. "≥": it was lost.`

const aboutConnectionsMH = `The same with scheduler ` + "`mh`" + `, which picks the real server from the client's address alone, so that the next holder picks the same one for a connection that it was not told of;
with ` + "`net.ipv4.vs.sloppy_tcp=1`" + ` it forwards such a connection. zklvs sets that by default; the harness sets it for keepalived.`

const aboutTable = `How long tools take to write the table of one host, each on an empty table, TCP services on one VIP with direct routing, no checks:

- **zklvs**: what the director does: read what is there, write down what is to be its own (on disk), compare, write in batches of netlink messages.
- **zklvs, bare batches**: the writing alone.
- **ipvsadm**: ` + "`ipvsadm -R`" + `, fed with the same; it makes a netlink request for each line and waits for its answer. *read back*: ` + "`ipvsadm -S -n`" + `. *change*: one ` + "`ipvsadm -e`" + `, the program's start
  included. *remove*: ` + "`ipvsadm -R`" + ` with a line ` + "`-D`" + ` for each service (` + "`ipvsadm -C`" + ` is one request, but takes everybody's services).
- **moby/ipvs**: a call for each service and destination.
- **keepalived**: from the start of its checkers' process, parsing of its configuration included, until the kernel has the last destination; *change*: SIGHUP with one weight changed, until the kernel has it;
  *remove*: SIGTERM until its end; "≥": it left services behind. It has no reading back.

The tools take turns, each in a new network namespace.`

const aboutCold = `Two directors of zklvs with its defaults (lease 3 s), one group, first with one service, then with 10,000 services of two real servers each, a document for each, without checks. The holder's director is
killed with SIGKILL, as in [failover](failover.md); the other one's kernel has no services then, so that all of them have to be written before the address may be bound.

- *taken over after*: from the SIGKILL until the client first hears the other host claim the VIP.
- The kernel keeps removed destinations for two minutes and searches them for each one that is added. The heir has had that time; a group that moves back sooner takes longer.
- *bare batches of as many*: right after it, the same services written on another host by the batches alone. The aim is a take-over of 10,000 services in at most twice this and what the take-over of
  one service takes.
- *memory*: resident set (VmRSS) of the holder's two processes, before the SIGKILL.`
