package election

import "fmt"

// NodeKind says which znode of a group a Key means.
type NodeKind uint8

// The znodes of a group that election reads and writes.
const (
	NodeQueue  NodeKind = iota // the parent of the locks
	NodeRecord                 // the record
	NodeLock                   // one lock
	NodeVoters                 // the list of voters, outside of the group's tree
)

// Key names one znode.
type Key struct {
	Group string
	Kind  NodeKind
	// Lock is the lock's name; in an OpCreateLock the name without sequence.
	Lock string
}

// OpKind is the kind of one operation of a Txn.
type OpKind uint8

// The operations of a Txn.
const (
	OpCheck      OpKind = iota // the node exists and has the version
	OpSet                      // write data if the node has the version
	OpCreate                   // create a persistent node
	OpCreateLock               // create an ephemeral sequential node
	OpDelete                   // delete the node if it has the version
)

// AnyVersion makes an operation match every version.
const AnyVersion int32 = -1

// Op is one operation of a Txn.
type Op struct {
	Kind    OpKind
	Key     Key
	Version int32
	Data    []byte
}

// Request is what the lock service is asked for: either an Observe of a group
// or a Txn.
type Request struct {
	ID uint64
	// Observe names the group to be read; Txn is empty then.
	Observe string
	// WithQueueVersion asks an Observe to read the queue's version before the record.
	WithQueueVersion bool
	// WithVoters asks an Observe to read the list of voters, at last.
	WithVoters bool
	Txn        []Op
}

// Outcome is how a request ended.
type Outcome uint8

// The outcomes of a request.
const (
	// OutcomeOK: the Txn committed, or the Observe is complete.
	OutcomeOK Outcome = iota
	// OutcomeConflict: no operation of the Txn was done; FailedOp says which one refused, Code why.
	OutcomeConflict
	// OutcomeUnknown: the reply was lost. The Txn may have committed, or may yet.
	OutcomeUnknown
	// OutcomeRefused: the service refuses us (credentials, ACL). Nothing was done.
	OutcomeRefused
)

// Code is why an operation refused.
type Code uint8

// The reasons of a conflict.
const (
	CodeNone Code = iota
	CodeNoNode
	CodeBadVersion
	CodeNodeExists
)

// String returns ZooKeeper's word for the code.
func (c Code) String() string {
	return [...]string{"none", "NoNode", "BadVersion", "NodeExists"}[c]
}

// Reply answers the request of the same ID.
type Reply struct {
	ID       uint64
	Outcome  Outcome
	FailedOp int
	Code     Code
	// Detail is an error text for people.
	Detail string
	// Created is the name of the lock that an OpCreateLock made.
	Created string
	// RecordVersion is the record's version after a Txn that wrote it, RecordZxid its mzxid.
	RecordVersion int32
	RecordZxid    int64
	Observation   Observation
}

// Observation is what an Observe read.
type Observation struct {
	// QueueExists and QueueVersion are those of the locks' parent; the version
	// is only valid when the request asked for it.
	QueueExists  bool
	QueueVersion int32

	RecordExists  bool
	Record        []byte
	RecordVersion int32
	RecordCreated int64 // czxid
	RecordChanged int64 // mzxid

	// Locks are the queue's children, in any order. Foreign names may be among them.
	Locks []LockSeen

	// NamedExists and NamedVersion are those of the lock that the record names.
	NamedExists  bool
	NamedVersion int32

	// VotersExist, Voters and VotersVersion are those of the list of voters; they
	// are only valid when the request asked for it.
	VotersExist   bool
	Voters        []byte
	VotersVersion int32
}

// LockSeen is one child of the queue.
type LockSeen struct {
	Name     string
	Priority int
	// MachineID and Address are the director's as a voter.
	MachineID string
	Address   string
}

// NamedLock returns the lock that a record names, "" if none or if the record
// is not understood. It is for the lock service, which reads that lock last.
func NamedLock(record []byte) string {
	r, err := DecodeRecord(record)
	if err != nil {
		return ""
	}
	return r.Lock
}

func (k Key) String() string {
	switch k.Kind {
	case NodeQueue:
		return k.Group + "/election"
	case NodeRecord:
		return k.Group + "/leader"
	case NodeVoters:
		return "voters/" + k.Group
	case NodeLock:
		return k.Group + "/election/" + k.Lock
	}
	return fmt.Sprintf("%s/?%d", k.Group, k.Kind)
}
