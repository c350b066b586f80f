package gate

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// maxMACs is how many source MAC addresses Exempt takes for one VIP.
const maxMACs = 3

// slot is what the program knows of one VIP: one cache line of memory shared
// with the kernel.
type slot struct {
	deadline atomic.Int64           // D in ns of CLOCK_BOOTTIME; 0 is shut for ever
	dropped  atomic.Uint64          // packets that found it shut
	macs     [maxMACs]atomic.Uint64 // as 6 bytes in memory, then two zeros; 0 is none
	_        [3]uint64
}

// Where the program finds the fields of a slot.
const (
	slotDeadline = int16(unsafe.Offsetof(slot{}.deadline))
	slotDropped  = int16(unsafe.Offsetof(slot{}.dropped))
	slotMACs     = int16(unsafe.Offsetof(slot{}.macs))
	slotSize     = unsafe.Sizeof(slot{})
)

// shared is the mapped memory of all slots. It is unmapped when nothing refers
// to it any more, so that a store under way while the Gate is closed does not
// fault.
type shared struct{ slots []slot }

func mapSlots(m *ebpf.Map) (*shared, error) {
	n := int(m.MaxEntries())
	b, err := unix.Mmap(m.FD(), 0, n*int(slotSize), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the deadlines into memory: %w", err)
	}
	s := &shared{slots: unsafe.Slice((*slot)(unsafe.Pointer(unsafe.SliceData(b))), n)}
	runtime.AddCleanup(s, func(b []byte) { _ = unix.Munmap(b) }, b)
	return s, nil
}

func (s *shared) set(i uint32, deadline time.Duration) {
	s.slots[i].deadline.Store(int64(deadline))
	runtime.KeepAlive(s)
}

func (s *shared) deadline(i uint32) time.Duration {
	d := time.Duration(s.slots[i].deadline.Load())
	runtime.KeepAlive(s)
	return d
}

func (s *shared) dropped(i uint32) uint64 {
	n := s.slots[i].dropped.Load()
	runtime.KeepAlive(s)
	return n
}

func (s *shared) exempt(i uint32, macs [maxMACs]uint64) (changed bool) {
	for k, m := range macs {
		changed = s.slots[i].macs[k].Swap(m) != m || changed
	}
	runtime.KeepAlive(s)
	return changed
}

// reset shuts a slot that gets a new owner.
func (s *shared) reset(i uint32) {
	s.set(i, 0)
	s.exempt(i, [maxMACs]uint64{})
	s.slots[i].dropped.Store(0)
	runtime.KeepAlive(s)
}
