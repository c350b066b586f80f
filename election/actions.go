package election

import "time"

// Holding names one holding of a group: one lock serves one holding.
type Holding struct {
	Group string
	Lock  string
	Epoch uint64
}

// Action is what the machine wants done. Actions are carried out in order.
type Action interface{ action() }

// Send asks the lock service. The request must be sent at once or not at all:
// the lease that it may extend counts from the call that returned the Send.
type Send struct{ Request Request }

// Grant allows to answer for a holding until Deadline (CLOCK_BOOTTIME). The
// executor checks the clock again right before and after it acts on it.
type Grant struct {
	Holding  Holding
	Deadline time.Duration
	// Version is the record's: whoever is to write the receipt if this director
	// dies needs it.
	Version int32
	// First marks the grant that begins the holding.
	First bool
}

// Queued tells which lock this director now has in a group's queue. It answers
// for the group under no other lock any more. Should this director die, whoever
// fences for it settles that lock, see Settle.
type Queued struct {
	Group string
	Lock  string
}

// Fence orders to stop answering for a holding, for good. The executor verifies
// it and then calls Machine.Fenced; until then no receipt is written and the
// group is not queued for again.
type Fence struct {
	Holding Holding
	Reason  string
}

// Note reports a decision for logs and people.
type Note struct {
	Group  string
	Text   string
	Reason string
	// Trouble marks what an operator should look at.
	Trouble bool
}

func (Send) action()   {}
func (Grant) action()  {}
func (Fence) action()  {}
func (Queued) action() {}
func (Note) action()   {}
