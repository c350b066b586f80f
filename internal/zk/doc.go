// Package zk keeps a session with ZooKeeper and knows the tree of one cluster
// in it. It works around the traps of github.com/go-zookeeper/zk 1.0.4 rather
// than to fork it.
//
// # Session
//
// New(Config) checks, Run(ctx) keeps the session; State tells what is known,
// Subscribe gives a consumer its own coalesced view of changes and of fired
// watches. Calls: Get, Exists, Children (and GetW, ExistsW, ChildrenW, which
// leave a watch), Sync, Create, Set, Delete, Multi (of OpCreate, OpSet,
// OpDelete, OpCheck), CheckAccess.
//
// Guaranteed, whatever the network and the servers do:
//
//   - A call ends. Without a connection it fails at once with ErrDisconnected;
//     else within the reply timeout (granted session timeout / 6, within 500 ms
//     to 1 s, or Config.ReplyTimeout), after which the connection is closed and
//     the next server tried, and any other call in flight fails too. This holds
//     also for a server that answers pings and does not commit.
//   - A change (Create, Set, Delete, Multi) is sent on the connection that was
//     there when the call was made, or never: it is not queued for a later
//     connection, so that it cannot run in a later session. ErrDisconnected,
//     ErrNoNode, ErrNodeExists, ErrBadVersion, ErrNotEmpty, ErrAuth, ErrExpired
//     and ErrOther mean that nothing was changed and nothing will be.
//   - ErrUnknown means sent and not answered: committed, refused, or yet to be
//     decided. Its fate is settled once a later change or Sync in the SAME session has
//     been answered on another connection: the leader refuses what arrives from
//     the server that the session has left. In a new session it is not settled
//     until the old one is known to be gone.
//   - Changes are sent one at a time, in the order of the calls; up to 16 reads
//     run beside them.
//   - A read's answer came on the connection on which it was asked.
//
// Safe to repeat after ErrUnknown: whatever names the versions it expects (Set,
// Delete, OpCheck with a version), a Multi that contains such an operation, and
// the Create of a name that is used once. Not safe: AnyVersion, and a
// sequential Create (look for the random part of the name first).
//
// A session is kept for as long as no server has proven it useless, however long
// the servers are away: it does not age while they have no quorum. A client that
// only cannot reach them learns at its return that it has expired. See patience.
//
// Not guaranteed: that State.Connected is true only while a server is there (a
// frozen one is noticed by the next call, or after a third of the session
// timeout plus the reply timeout), that every watch fires (they end with the
// connection; poll slowly), that the session lives as long as State says. Only
// a committed change proves that.
//
// Measured on loopback, three servers (tick 500 ms, syncLimit 3), session
// timeout 6 s, the longest time without a committed write: own follower killed
// 5 ms, leader killed 0.6 s, own server frozen 1.0 s, leader frozen 2.0 s. The
// session lived on in each case. The longest call took 1.00 s.
//
// # Tree
//
// NewTree(cluster) builds every path of the project. A name that is no plain
// name is escaped, so that it is one element of a path whatever it holds.
//
// # Documents
//
// Over a second session, which 10,000 reads may slow down: NewStore(session,
// tree) reads all documents (ReadSpec) and applies changes (Apply: up to
// 512 KiB atomically, against the version that was read; makes parents, and
// group, queue and record where a group's znode is absent). NewDocuments keeps
// an up-to-date copy, NewPublisher keeps ephemeral znodes, NewKeyReader follows
// the cluster's key; all run with Run(ctx).
//
// The key is the one znode that the world may not read where it may read the
// rest (Config.WorldRead). Without credentials it is as open as everything else.
//
// A document written by hand is followed too, but only an apply makes several
// of them change at once. A reader that comes in the middle of an apply above
// 512 KiB waits up to 5 s for its end, and then says in Snapshot.Note that the
// documents may not belong together.
package zk
