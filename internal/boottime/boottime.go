// Package boottime is the one seam through which the project reads
// CLOCK_BOOTTIME, the clock on which leases are counted.
//
// CLOCK_BOOTTIME is monotonic, is not stepped by NTP and goes on counting
// while the machine is suspended (clock_gettime(2)). It says nothing about the
// clock of another host: values are compared on one host only.
package boottime

import (
	"time"

	"golang.org/x/sys/unix"
)

// Now returns the time since boot, in nanoseconds, suspend included.
func Now() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		// Linux has had this clock since 2.6.39; without it no lease can be counted.
		panic("clock_gettime(CLOCK_BOOTTIME): " + err.Error())
	}
	return time.Duration(ts.Nano())
}
