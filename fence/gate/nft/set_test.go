package nft_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/nftables"

	"github.com/zklvs/zklvs/fence/gate/nft"
	"github.com/zklvs/zklvs/internal/boottime"
)

// window records what a Set armed.
type window struct {
	armed []time.Duration
	live  bool
	err   error
}

func (w *window) Arm(at time.Duration) error {
	w.armed, w.live = append(w.armed, at), w.err == nil
	return w.err
}

func (w *window) Disarm() error { w.live = false; return nil }

// A clock that jumps during the kernel's act is a process that was frozen.
func TestSlowSet(t *testing.T) {
	newNamespace(t)
	const slack = 50 * time.Millisecond
	for _, c := range []struct {
		name  string
		jumps []time.Duration // from one look at the clock to the next
		armed int
		want  error
		open  bool
	}{
		{"in time", []time.Duration{slack}, 1, nil, true},
		{"slow once", []time.Duration{slack + 1, 0, slack}, 2, nil, true},
		{"always slow", []time.Duration{slack + 1, 0, slack + 1, 0, slack + 1}, 3, nft.ErrSlow, false},
		{"past the deadline", []time.Duration{2 * time.Second}, 1, nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			newNamespace(t)
			now, looks := 100*time.Second, 0
			w := &window{}
			g := newGate(t, func(config *nft.Config) {
				config.Early, config.Window = 2*slack, w
				config.Now = func() time.Duration {
					if looks++; looks >= 2 && looks-2 < len(c.jumps) {
						now += c.jumps[looks-2]
					}
					return now
				}
			})
			must(g.Add(vip4))
			if err := g.Set(vip4, 101*time.Second); !errors.Is(err, c.want) {
				t.Errorf("got error %v, want %v", err, c.want)
			}
			if len(w.armed) != c.armed || w.armed[0] != 100*time.Second+slack || w.live {
				t.Errorf("armed at %v, still %v", w.armed, w.live)
			}
			if got := openElements(); (got > 0) != c.open {
				t.Errorf("%d open elements", got)
			}
		})
	}
}

func TestNoWindowNoOpening(t *testing.T) {
	newNamespace(t)
	w := &window{err: errors.New("refused")}
	g := newGate(t, func(c *nft.Config) { c.Window = w })
	must(g.Add(vip4))
	if err := g.Set(vip4, boottime.Now()+time.Hour); !errors.Is(err, w.err) || openElements() > 0 {
		t.Errorf("got error %v, %d open elements", err, openElements())
	}
}

func openElements() int {
	c, err := nftables.New()
	must(err)
	elements, err := c.GetSetElements(&nftables.Set{
		Table: &nftables.Table{Name: "zklvs", Family: nftables.TableFamilyNetdev}, Name: "open4",
	})
	must(err)
	for _, e := range elements {
		if e.Timeout == 0 {
			panic("an element stays for ever")
		}
	}
	return len(elements)
}

// An element that expires while it is replaced is no error.
func TestSetAfterExpiry(t *testing.T) {
	newNamespace(t)
	g := newGate(t)
	must(g.Add(vip4))
	for i := range 40 {
		end := boottime.Now() + nft.DefaultEarly + 12*time.Millisecond
		must(g.Set(vip4, end))
		pause := time.Duration(8+i/4) * time.Millisecond // before, at and after its end
		<-time.After(pause)
		if i%2 == 0 {
			must(g.Set(vip4, boottime.Now()+time.Hour))
			if openElements() != 1 {
				t.Fatal("not open")
			}
		}
		must(g.Shut(vip4))
	}
}

func BenchmarkSet(b *testing.B) {
	newNamespace(b)
	g := newGate(b)
	must(g.Add(vip4))
	for b.Loop() {
		must(g.Set(vip4, boottime.Now()+time.Hour))
	}
}
