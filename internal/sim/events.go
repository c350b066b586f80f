package sim

import "time"

// task is what an event does; what tells events of one task apart, so that none
// needs a closure of its own.
type task interface{ do(what int) }

// call is a task that is one function.
type call func()

func (f call) do(int) { f() }

// event happens at a true time. One that belongs to a process is dropped when
// that life of the process has ended, and waits while it is paused.
type event struct {
	at   time.Duration
	seq  int
	what int
	life int
	of   *process
	task task
}

// anyLife is the life of an event that meets a process whichever life it is in.
const anyLife = -1

// events is a binary heap by time, then by order of arrival.
type events []event

func (e events) before(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}

func (e *events) push(x event) {
	*e = append(*e, x)
	q := *e
	for i := len(q) - 1; i > 0 && q.before(i, (i-1)/2); i = (i - 1) / 2 {
		q[i], q[(i-1)/2] = q[(i-1)/2], q[i]
	}
}

func (e *events) pop() event {
	q := *e
	top, last := q[0], len(q)-1
	q[0], q[last] = q[last], event{}
	q = q[:last]
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < last; child++ {
			if q.before(child, least) {
				least = child
			}
		}
		if least == i {
			break
		}
		q[i], q[least] = q[least], q[i]
		i = least
	}
	*e = q
	return top
}

// process is a director or a guard: it lives, dies, and stands still at times.
type process struct {
	s      *schedule
	life   int // of which number, counted up at birth and death
	alive  bool
	paused time.Duration // until then, true time
}

func (p *process) born() {
	p.life++
	p.alive, p.paused = true, 0
}

func (p *process) died() {
	p.life++
	p.alive = false
}

// after lets the process do something later.
func (p *process) after(d time.Duration, do func()) { p.schedule(d, call(do), 0) }

func (p *process) schedule(d time.Duration, t task, what int) {
	p.s.push(event{at: p.s.now + d, what: what, life: p.life, of: p, task: t})
}

// after lets something happen that is no process of ours.
func (s *schedule) after(d time.Duration, do func()) { s.push(event{at: s.now + d, task: call(do)}) }

func (s *schedule) push(e event) {
	s.seq++
	e.seq = s.seq
	s.queue.push(e)
}

// step lets the next event happen.
func (s *schedule) step() {
	e := s.queue.pop()
	s.now = e.at
	if p := e.of; p != nil {
		if !p.alive || e.life != p.life && e.life != anyLife {
			return
		}
		if p.paused > s.now {
			e.at, e.life = p.paused, p.life // in the order in which they were sent
			s.queue.push(e)
			return
		}
	}
	s.steps++
	e.task.do(e.what)
}
