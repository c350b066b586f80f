package lockservice

import "github.com/zklvs/zklvs/election"

// Kind says what a request is for, so that what is rare and dangerous can be
// lost more often than what is frequent.
type Kind uint8

// The kinds of requests.
const (
	Read    Kind = iota
	Renew        // of all held groups
	Queue        // whatever only concerns locks that wait
	Take         // an acquisition
	Replace      // of a missing record
	Receipt
	List // a write of the list of voters
)

// String returns the word used in traces.
func (k Kind) String() string {
	return [...]string{"read", "renewal", "queueing", "acquisition", "replacement", "receipt", "list of voters"}[k]
}

// KindOf tells what a request's transaction is for.
func KindOf(txn []election.Op) Kind {
	if len(txn) == 0 {
		return Read
	}
	kind := Queue
	for i, op := range txn {
		if op.Key.Kind == election.NodeVoters && op.Kind != election.OpCheck {
			return List
		}
		if op.Key.Kind != election.NodeRecord {
			continue
		}
		switch op.Kind {
		case election.OpCreate:
			return Replace
		case election.OpSet:
			if i == 0 {
				return Receipt
			}
			return Take
		case election.OpCheck:
			kind = Renew
		}
	}
	return kind
}
