package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/zklvs/zklvs/internal/boottime"
	"github.com/zklvs/zklvs/internal/lab"
	"github.com/zklvs/zklvs/ipvs"
)

// table compares how fast tools write the kernel's table.
type table struct{}

// TableWriting is the section of the kernel's table.
func TableWriting() Section { return table{} }

// The tools. Bare is the batches of package ipvs without what the director does
// around them.
const (
	Bare       = "zklvs, bare batches"
	Ipvsadm    = "ipvsadm"
	Moby       = "moby/ipvs"
	Keepalived = "keepalived"
)

const (
	installed = "install"
	readBack  = "read back"
	changed   = "change one destination"
	removed   = "remove"
)

// tableSizes are the cases.
var tableSizes = []struct {
	name                   string
	services, destinations int
}{{"1,000 services x 4", 1000, 4}, {"10,000 services x 2", 10_000, 2}}

// Name is a word.
func (table) Name() string { return "table" }

// Title heads the section's part of the page.
func (table) Title() string { return "Writing the kernel's table" }

// Page names the page.
func (table) Page() string { return "table" }

// NeedsIPVS is true.
func (table) NeedsIPVS() bool { return true }

// About says what is measured.
func (table) About() string { return aboutTable }

// Measures are the rows of the table.
func (table) Measures() []Measure {
	return []Measure{{Name: installed}, {Name: readBack}, {Name: changed}, {Name: removed}}
}

// Plots is one of the installations.
func (table) Plots() []Plot {
	return []Plot{{Measure: installed, Name: "install", Title: "Time to install services and destinations"}}
}

// Targets wants installation five times as fast as ipvsadm's, and little besides the
// batches.
func (table) Targets() (list []Target) {
	for _, size := range tableSizes {
		list = append(list,
			Target{Case: size.name, Measure: installed, Contender: Zklvs, Against: Ipvsadm, AtLeast: 5},
			Target{Case: size.name, Measure: installed, Contender: Zklvs, Against: Bare, AtLeast: 0.5})
	}
	return list
}

// tableTool writes the table of the host that it was made for. What it wrote is
// removed by remove.
type tableTool interface {
	name() string
	install(ctx context.Context, services []ipvs.Service) error
	// read reads everything; errCannot if the tool has no such function.
	read(ctx context.Context) error
	// change makes the weight of the last destination of a service another one.
	change(ctx context.Context, services []ipvs.Service, i int) error
	remove(ctx context.Context, services []ipvs.Service) error
}

var (
	errCannot     = errors.New("the tool cannot do this")
	errUnfinished = errors.New("it ended before its work") // its time is a lower bound
)

// Run lets the tools take turns in each round of each size.
func (s table) Run(ctx context.Context, env Env) (Result, error) {
	r := Result{}
	l, err := lab.New(lab.Options{})
	if err != nil {
		return r, err
	}
	err = s.measure(ctx, env, l, &r)
	return r, errors.Join(err, l.Close())
}

func (s table) measure(ctx context.Context, env Env, l *lab.Lab, r *Result) error {
	for _, size := range tableSizes {
		services := manyServices(size.services, size.destinations)
		for i := range env.Runs {
			// The kernel searches what was removed in the last two minutes for each
			// destination that it adds: each tool gets a table of its own.
			for j := range newTableTools(nil) {
				host, err := l.AddHost(fmt.Sprintf("table%d-%d-%d", size.services, i+1, j+1))
				if err != nil {
					return err
				}
				tool := newTableTools(host)[j]
				times, err := timed(ctx, tool, services)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", tool.name(), size.name, err)
				}
				text := ""
				for _, t := range times {
					r.Add(size.name, t.measure, tool.name(), "s", t.took)
					text += fmt.Sprintf(", %s %s", t.measure, show(t.took, "s", roundingOf(tool.name())))
				}
				env.Progress("%s, run %d of %d: %s%s", size.name, i+1, env.Runs, tool.name(), text)
			}
		}
	}
	return nil
}

type timing struct {
	measure string
	took    Value
}

// timed does everything once with a tool, on an empty table.
func timed(ctx context.Context, tool tableTool, services []ipvs.Service) (times []timing, err error) {
	for _, step := range []struct {
		measure string
		do      func() error
	}{
		{installed, func() error { return tool.install(ctx, services) }},
		{readBack, func() error { return tool.read(ctx) }},
		{changed, func() error { return tool.change(ctx, services, len(services)/2) }},
		{removed, func() error { return tool.remove(ctx, services) }},
	} {
		begun := boottime.Now()
		err := step.do()
		took := boottime.Now() - begun
		switch {
		case errors.Is(err, errCannot):
			continue
		case err != nil && !errors.Is(err, errUnfinished):
			return times, fmt.Errorf("%s: %w", step.measure, err)
		}
		times = append(times, timing{step.measure, Value{V: took.Seconds(), AtLeast: err != nil}})
	}
	return times, nil
}

// manyServices are services on one VIP, each with destinations of its own.
func manyServices(services, destinations int) []ipvs.Service {
	out := make([]ipvs.Service, services)
	for i := range out {
		port := uint16(1000 + i)
		s := ipvs.Service{Key: ipvs.Key{Protocol: ipvs.TCP, Address: lab.VIP, Port: port}, Scheduler: "wlc"}
		for j := range destinations {
			address := netip.AddrFrom4([4]byte{10, byte(1 + j), byte(i >> 8), byte(i)})
			s.Destinations = append(s.Destinations, ipvs.Destination{Address: address, Port: port, Forward: ipvs.DR, Weight: 1})
		}
		out[i] = s
	}
	return out
}

// newWeight is what the changed destination gets.
const newWeight = 7

// reweighted is a copy in which the last destination of service i has that weight.
func reweighted(services []ipvs.Service, i int) []ipvs.Service {
	out := append([]ipvs.Service(nil), services...)
	ds := append([]ipvs.Destination(nil), out[i].Destinations...)
	ds[len(ds)-1].Weight = newWeight
	out[i].Destinations = ds
	return out
}
