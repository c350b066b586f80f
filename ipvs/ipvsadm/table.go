package ipvsadm

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/zklvs/zklvs/ipvs"
)

// Bounds of the input.
const (
	maxLine         = 4096 // bytes
	maxInput        = 64 << 20
	maxServices     = 100_000
	maxDestinations = 1_000_000
)

// Table is what a file of ipvsadm says.
type Table struct {
	// Services stand in the order of their -A lines.
	Services []ipvs.Service
	// Notes tell what the file says and Services have no place for: settings
	// of the host, and what ipvsadm itself would not keep.
	Notes []Problem

	lines map[place]int
}

type place struct {
	key  ipvs.Key
	dest netip.AddrPort
}

// Line is the line that set the service last, 0 if there is none.
func (t *Table) Line(k ipvs.Key) int { return t.lines[place{key: k}] }

// DestinationLine is the line that set a real server last, 0 if there is none.
func (t *Table) DestinationLine(k ipvs.Key, d netip.AddrPort) int { return t.lines[place{k, d}] }

// Parse reads what ipvsadm -S -n prints or ipvsadm -R reads. name stands for
// the input in messages. The error is an Errors with every problem, in which
// Read's notes are problems, too; or that of r.
func Parse(name string, r io.Reader) ([]ipvs.Service, error) {
	t, err := Read(name, r)
	var faults Errors
	if err != nil && !errors.As(err, &faults) {
		return nil, err
	}
	if t != nil {
		faults = append(faults, t.Notes...)
	}
	if len(faults) > 0 {
		slices.SortStableFunc(faults, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
		return nil, faults
	}
	return t.Services, nil
}

// Read is Parse for those who can do with notes. Lines are applied one after
// the other, as ipvsadm -R does: -E, -e, -D, -d and -C change what stands
// above. The table is there even beside an Errors, for the notes in it.
func Read(name string, r io.Reader) (*Table, error) {
	b := &builder{name: name, services: map[ipvs.Key]*entry{}}
	err := b.read(r)
	t := b.table()
	switch {
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", name, err)
	case len(b.faults) > 0:
		return t, b.faults
	}
	return t, nil
}

// builder plays the lines on an empty table.
type builder struct {
	name         string
	line         int
	faults       Errors
	notes        []Problem
	services     map[ipvs.Key]*entry
	order        []*entry // those removed, too
	destinations int
}

type entry struct {
	service      ipvs.Service // without destinations
	line         int
	destinations map[netip.AddrPort]*destination
	order        []*destination
	gone         bool
}

type destination struct {
	ipvs.Destination
	line int
	gone bool
}

func (b *builder) read(r io.Reader) error {
	left := &io.LimitedReader{R: r, N: maxInput + 1}
	in := bufio.NewScanner(left)
	in.Buffer(make([]byte, 0, maxLine), maxLine)
	for in.Scan() && len(b.faults) < maxProblems {
		b.line++
		b.play(in.Text())
	}
	if errors.Is(in.Err(), bufio.ErrTooLong) {
		b.line++
		b.fault("the line is longer than %d bytes; expected a file that ipvsadm -S -n printed", maxLine)
		return nil
	}
	if left.N == 0 {
		b.fault("the input is larger than %d MiB; expected less", maxInput>>20)
	}
	return in.Err()
}

func (b *builder) fault(format string, args ...any) {
	b.faults = append(b.faults, Problem{b.name, b.line, fmt.Sprintf(format, args...)})
}

func (b *builder) play(text string) {
	tokens := strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == '\t' || r == '\r' })
	for len(tokens) > 0 && tokens[0] == "ipvsadm" {
		tokens = tokens[1:]
	}
	if len(tokens) == 0 || strings.HasPrefix(tokens[0], "#") {
		return
	}
	l := parseLine(tokens)
	b.apply(l)
	for _, f := range l.faults {
		b.fault("%s", f)
	}
	for _, n := range l.notes {
		if len(b.notes) < maxProblems {
			b.notes = append(b.notes, Problem{b.name, b.line, n})
		}
	}
}

// apply plays a line even if it has faults, as far as it names what it is
// about: later lines about it are right.
func (b *builder) apply(l *line) {
	switch l.command {
	case "":
		return
	case "clear":
		b.services, b.order, b.destinations = map[ipvs.Key]*entry{}, nil, 0
		return
	case "set":
		l.note("--set is left out: timeouts of connections are no part of a service (cluster.ipvs.timeouts in the documents)")
		return
	case "start-daemon", "stop-daemon":
		l.note("--" + l.command + " is left out: connection sync is no part of a service (cluster.ipvs.sync in the documents)")
		return
	case "zero":
		l.note(l.slots[slotCommand].text + " is left out: counters are no part of a table")
		return
	}
	key, ok := l.key()
	if !ok {
		return
	}
	switch l.command {
	case "add-service", "edit-service", "delete-service":
		b.service(l, key)
	default:
		b.destination(l, key)
	}
}

func (b *builder) service(l *line, key ipvs.Key) {
	e := b.services[key]
	switch {
	case l.command == "delete-service" && e != nil:
		e.gone = true
		b.destinations -= len(e.destinations)
		delete(b.services, key)
	case l.command == "add-service" && e == nil && len(b.services) == maxServices:
		l.fault(fmt.Sprintf("there are more than %d services; expected fewer", maxServices))
	case l.command == "add-service" && e == nil:
		e = &entry{service: l.service(key), line: b.line, destinations: map[netip.AddrPort]*destination{}}
		b.services[key] = e
		b.order = append(b.order, e)
	case l.command == "edit-service" && e != nil:
		e.service, e.line = l.service(key), b.line
	case e != nil:
		l.fault(fmt.Sprintf("service %s stands there already, in line %d; expected it once", key, e.line))
	default:
		l.fault(fmt.Sprintf("service %s does not stand above; expected its -A line first", key))
	}
}

func (b *builder) destination(l *line, key ipvs.Key) {
	d, ok := l.destination(key)
	e := b.services[key]
	if !ok || e == nil {
		if e == nil {
			l.fault(fmt.Sprintf("service %s does not stand above; expected its -A line first", key))
		}
		return
	}
	at := e.destinations[d.AddrPort()]
	switch {
	case l.command == "delete-server" && at != nil:
		at.gone = true
		b.destinations--
		delete(e.destinations, d.AddrPort())
	case l.command == "add-server" && at == nil && b.destinations == maxDestinations:
		l.fault(fmt.Sprintf("there are more than %d real servers; expected fewer", maxDestinations))
	case l.command == "add-server" && at == nil:
		at = &destination{Destination: d, line: b.line}
		b.destinations++
		e.destinations[d.AddrPort()] = at
		e.order = append(e.order, at)
	case l.command == "edit-server" && at != nil:
		at.Destination, at.line = d, b.line
	case at != nil:
		l.fault(fmt.Sprintf("real server %s of %s stands there already, in line %d; expected it once", d.AddrPort(), key, at.line))
	default:
		l.fault(fmt.Sprintf("real server %s of %s does not stand above; expected its -a line first", d.AddrPort(), key))
	}
}

func (b *builder) table() *Table {
	t := &Table{Notes: b.notes, lines: make(map[place]int, len(b.services)+b.destinations)}
	for _, e := range b.order {
		if e.gone {
			continue
		}
		s := e.service
		t.lines[place{key: s.Key}] = e.line
		for _, d := range e.order {
			if !d.gone {
				s.Destinations = append(s.Destinations, d.Destination)
				t.lines[place{s.Key, d.AddrPort()}] = d.line
			}
		}
		t.Services = append(t.Services, s)
	}
	return t
}
