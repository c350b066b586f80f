package nemesis

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/internal/boottime"
)

// needsOwnClock keeps this from ever touching a clock that others use.
func needsOwnClock(*site) string { return needsOwnClockHere() }

func needsOwnClockHere() string {
	if os.Getenv("ZKLVS_INSIDE") == "uml" { // deploy/kernel/with-ipvs says so
		return ""
	}
	return "the clock of this kernel is not ours to turn: run in user-mode Linux (ZKLVS_KERNEL=uml)"
}

// stepClock steps CLOCK_REALTIME to the future or the past, and back.
func stepClock(_ context.Context, _ *site, p struck) (func(context.Context) error, error) {
	step := time.Duration(p.Dice-500) * 10 * time.Second
	begun, before := boottime.Now(), time.Now()
	set := func(t time.Time) error {
		ts := unix.NsecToTimespec(t.UnixNano())
		if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
			return fmt.Errorf("set the clock: %w", err)
		}
		return nil
	}
	return heals(func() error { return set(before.Add(boottime.Now() - begun)) }), set(before.Add(step))
}

// slewClock lets the kernel's clocks, CLOCK_BOOTTIME too, run 8 % fast or slow by
// adjtimex(2). All hosts share the kernel: their clocks do not drift apart.
func slewClock(_ context.Context, _ *site, p struck) (func(context.Context) error, error) {
	const usual, slew = 10_000, 800 // microseconds a tick, USER_HZ of them a second
	tick := int64(usual + slew)
	if p.Dice%2 == 0 {
		tick = usual - slew
	}
	set := func(tick int64) error {
		if _, err := unix.Adjtimex(&unix.Timex{Modes: unix.ADJ_TICK, Tick: tick}); err != nil {
			return fmt.Errorf("set the rate of the clock: %w", err)
		}
		return nil
	}
	return heals(func() error { return set(usual) }), set(tick)
}
