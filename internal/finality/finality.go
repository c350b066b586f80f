// Package finality remembers which locks were fenced: a fence is final for its
// lock. Not guaranteed: a memory of more than the last limit of them.
package finality

// limit is how many fenced locks are remembered. A call that comes later still
// carries the deadline of its own day, long past.
const limit = 1024

// Memory holds the names of the last fenced locks of a group. The zero value
// is empty. It is not safe for concurrent use.
type Memory struct {
	names map[string]bool
	order []string
}

// Has reports whether the lock was fenced.
func (m *Memory) Has(lock string) bool { return m.names[lock] }

// Add remembers a lock for good.
func (m *Memory) Add(lock string) {
	if m.names[lock] {
		return
	}
	if m.names == nil {
		m.names = map[string]bool{}
	}
	if len(m.order) >= limit {
		delete(m.names, m.order[0])
		m.order = m.order[1:]
	}
	m.names[lock] = true
	m.order = append(m.order, lock)
}
