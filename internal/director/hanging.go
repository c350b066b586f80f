package director

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/zklvs/zklvs/internal/logfield"
	"github.com/zklvs/zklvs/internal/spec"
	"github.com/zklvs/zklvs/internal/synrecv"
	"github.com/zklvs/zklvs/ipvs"
)

// Traffic reads what passes through this host's IPVS table, beside Table: a read
// may take seconds where there are many services, and holds nobody up.
type Traffic interface {
	// Stats are the counters of the whole table.
	Stats() ([]ipvs.ServiceStats, error)
	// Sample are the first entries of the kernel's list of connections.
	Sample() ([]ipvs.Conn, error)
}

// Hanging is a place where connections hang in SYN_RECV; see synrecv.Finding.
type Hanging struct {
	Service    string `json:"service"`
	Listen     string `json:"listen"`                // in the kernel's table: TCP 192.0.2.100:80
	RealServer string `json:"real_server,omitempty"` // "": all of the service's
	Since      string `json:"since"`                 // RFC 3339
	Cause      string `json:"cause"`
	Remedy     string `json:"remedy"`
	Evidence   string `json:"evidence"`
}

const (
	// readShare bounds what the counters cost: there are so many times as long as
	// a read takes between two reads.
	readShare = 20
	// maxHanging bounds what is logged at once and what is published.
	maxHanging = 20
)

// hanging watches the connections of the services that are held here.
type hanging struct {
	traffic  Traffic
	services func() map[ipvs.Key]string // of held groups, with their documents' names
	now      func() time.Duration
	log      *zap.Logger

	// run's own.
	detector *synrecv.Detector
	names    map[ipvs.Key]string // of the look before
	failed   string              // why the last look could not be taken

	mu    sync.Mutex // guards going
	going []Hanging
}

func newHanging(traffic Traffic, services func() map[ipvs.Key]string, now func() time.Duration, log *zap.Logger) *hanging {
	return &hanging{traffic: traffic, services: services, now: now, log: log, detector: synrecv.New()}
}

// run looks every synrecv.Interval, less often where a look takes long.
func (h *hanging) run(ctx context.Context) error {
	timer := time.NewTimer(synrecv.Interval)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		begun := h.now()
		h.look()
		timer.Reset(max(synrecv.Interval, readShare*(h.now()-begun)))
	}
}

// look compares the counters with those of the look before. Without held services
// nothing is read.
func (h *hanging) look() {
	names, before := h.services(), h.names
	h.names = names
	if len(names)+len(before) == 0 {
		return
	}
	var stats []ipvs.ServiceStats
	if len(names) > 0 {
		all, err := h.traffic.Stats()
		if err != nil {
			h.fail(err)
			return
		}
		stats = ours(all, names)
	}
	findings, err := h.detector.Observe(h.now(), stats, h.traffic.Sample)
	h.fail(err)
	h.tell(findings, func(k ipvs.Key) string { return cmp.Or(names[k], before[k]) })
}

// ours keeps the services that this director holds, in place.
func ours(stats []ipvs.ServiceStats, names map[ipvs.Key]string) []ipvs.ServiceStats {
	kept := stats[:0]
	for _, s := range stats {
		if names[s.Key] != "" {
			kept = append(kept, s)
		}
	}
	return kept
}

// fail tells once why a look could not be taken.
func (h *hanging) fail(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != h.failed {
		h.log.Warn("connections cannot be watched for SYN_RECV: trying again", zap.String(logfield.Reason, text))
	}
	h.failed = text
}

// tell logs what began and ended, and keeps what goes on for status.
func (h *hanging) tell(findings []synrecv.Finding, name func(ipvs.Key) string) {
	var going []Hanging
	news := 0
	for _, f := range findings {
		if f.Phase != synrecv.Ends {
			going = append(going, h.describe(f, name(f.Service)))
		}
		if f.Phase == synrecv.GoesOn {
			continue
		}
		if news++; news <= maxHanging {
			h.logNews(f, name(f.Service))
		}
	}
	if news > maxHanging {
		h.log.Warn("... and so do others, or no longer: see `zklvs status` on this host", zap.Int("more", news-maxHanging))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.going = going
}

func (h *hanging) logNews(f synrecv.Finding, name string) {
	fields := []zap.Field{zap.String(logfield.Service, name), zap.Stringer(logfield.Listen, f.Service)}
	if f.RealServer.IsValid() {
		fields = append(fields, zap.Stringer(logfield.RealServer, f.RealServer))
	}
	if f.Phase == synrecv.Ends {
		h.log.Info("connections no longer hang in SYN_RECV", append(fields, zap.String(logfield.Reason, f.Ended), zap.Duration(logfield.Took, h.now()-f.Began))...)
		return
	}
	h.log.Warn("connections hang in SYN_RECV", append(fields, zap.String(logfield.Reason, f.Cause), zap.String(logfield.Remedy, f.Remedy), zap.Stringer(logfield.Evidence, f.Evidence))...)
}

func (h *hanging) describe(f synrecv.Finding, name string) Hanging {
	out := Hanging{Service: name, Listen: f.Service.String(), Since: time.Now().Add(f.Began - h.now()).UTC().Format(time.RFC3339),
		Cause: f.Cause, Remedy: f.Remedy, Evidence: f.Evidence.String()}
	if f.RealServer.IsValid() {
		out.RealServer = f.RealServer.String()
	}
	return out
}

// status is what goes on now.
func (h *hanging) status() []Hanging {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.going
}

// lines are for Presence: they stay the same while findings go on.
func (h *hanging) lines() []string {
	going := h.status()
	var out []string
	for _, g := range going[:min(len(going), maxHanging)] {
		out = append(out, g.String())
	}
	if more := len(going) - maxHanging; more > 0 {
		out = append(out, fmt.Sprintf("... and connections to %d more hang in SYN_RECV", more))
	}
	return out
}

// String is one without figures.
func (g Hanging) String() string {
	to := "all real servers in use"
	if g.RealServer != "" {
		to = "real server " + g.RealServer
	}
	return fmt.Sprintf("connections to %s of service %s (%s) hang in SYN_RECV: %s; check: %s", to, g.Service, g.Listen, g.Cause, g.Remedy)
}

// ServiceOf returns the names in the documents of the kernel's services that this
// director may install, held here or not. It must not be changed.
func (d *Director) ServiceOf() map[ipvs.Key]string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.docs.spec != d.named.of {
		d.named = naming{d.docs.spec, keysOf(d.docs.spec, func(string) bool { return true })}
	}
	return d.named.services
}

// naming are the names of the services of some documents.
type naming struct {
	of       *spec.Spec
	services map[ipvs.Key]string
}

func keysOf(sp *spec.Spec, group func(string) bool) map[ipvs.Key]string {
	if sp == nil {
		return nil
	}
	out := map[ipvs.Key]string{}
	for name, s := range sp.Services {
		if !group(s.Group) {
			continue
		}
		for _, l := range s.Listen {
			for port := int(l.Port); port <= int(l.High()); port++ {
				out[kernelService(s, l, uint16(port), nil).Key] = name
			}
		}
	}
	return out
}

// heldServices are those whose connections pass here.
func (d *Director) heldServices() map[ipvs.Key]string {
	held := d.rules.groups()
	if len(held) == 0 {
		return nil
	}
	d.mu.Lock()
	sp := d.docs.spec
	d.mu.Unlock()
	return keysOf(sp, func(group string) bool { return held[group] })
}
