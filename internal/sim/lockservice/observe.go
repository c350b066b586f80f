package lockservice

import "github.com/zklvs/zklvs/election"

// Observe reads a group in the order of the contract. Before each of its reads
// it calls at for the state to read from, which must not go back.
func (s *Service) Observe(r election.Request, at func() int64) election.Observation {
	var o election.Observation
	read := func() *group {
		if g := s.trees[at()].group(r.Observe); g != nil {
			return g
		}
		return &nothing
	}
	if r.WithQueueVersion {
		if q := read().queue; q != nil {
			o.QueueVersion = q.version
		}
	}
	lock := ""
	if n := read().record; n != nil {
		o.RecordExists, o.Record, lock = true, n.data, n.rec.Lock
		o.RecordVersion, o.RecordCreated, o.RecordChanged = n.version, n.created, n.changed
	}
	children := read()
	o.QueueExists = children.queue != nil
	if len(children.locks) > 0 {
		o.Locks = make([]election.LockSeen, len(children.locks))
		for i, n := range children.locks {
			o.Locks[i] = n.lock
		}
	}
	if lock != "" {
		if n := read().lock(lock); n != nil {
			o.NamedExists, o.NamedVersion = true, n.version
		}
	}
	if r.WithVoters {
		if n := read().voters; n != nil {
			o.VotersExist, o.Voters, o.VotersVersion = true, n.data, n.version
		}
	}
	return o
}

// nothing is a group of which nothing exists; it is never written to.
var nothing group
