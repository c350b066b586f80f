package health

import "container/heap"

// entry is a check in the engine. It is either queued (index >= 0) or being
// probed (cancel != nil) or, after Set dropped it, neither.
type entry struct {
	check
	index  int
	cancel func()
}

// queue orders the entries that wait for their next probe by due time, oldest
// first. The methods of heap.Interface are not for callers.
type queue []*entry

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].due < q[j].due }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

// Push is part of heap.Interface.
func (q *queue) Push(x any) {
	en := x.(*entry)
	en.index = len(*q)
	*q = append(*q, en)
}

// Pop is part of heap.Interface.
func (q *queue) Pop() any {
	last := len(*q) - 1
	en := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	en.index = -1
	return en
}

func (q *queue) add(en *entry) { heap.Push(q, en) }

func (q *queue) next() *entry {
	if len(*q) == 0 {
		return nil
	}
	return (*q)[0]
}

// remove takes en out if it is queued.
func (q *queue) remove(en *entry) {
	if en.index >= 0 {
		heap.Remove(q, en.index)
	}
}
