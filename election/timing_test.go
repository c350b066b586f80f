package election

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func timings() *rapid.Generator[Timing] {
	return rapid.Custom(func(t *rapid.T) Timing {
		lease := time.Duration(rapid.Int64Range(int64(MinLease), int64(MaxLease)).Draw(t, "lease"))
		return Timing{
			Lease:    lease,
			Renew:    time.Duration(rapid.Int64Range(1, int64(lease/3)).Draw(t, "renew")),
			Drift:    rapid.Float64Range(0, 0.5).Draw(t, "drift"),
			Lateness: time.Duration(rapid.Int64Range(0, int64(MaxLease-lease)).Draw(t, "lateness")),
		}
	})
}

func TestWaitCoversEveryLease(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		timing := timings().Draw(t, "timing")
		if err := timing.Validate(); err != nil {
			t.Fatal(err)
		}
		short := time.Duration(rapid.Int64Range(1, int64(MaxLease)).Draw(t, "short"))
		long := time.Duration(rapid.Int64Range(int64(short), int64(MaxLease)).Draw(t, "long"))
		if timing.Wait(short) > timing.Wait(long) {
			t.Fatalf("Wait(%v) = %v is above Wait(%v) = %v", short, timing.Wait(short), long, timing.Wait(long))
		}
		if least := time.Duration(float64(short) * (1 + 2*timing.Drift)); timing.Wait(short) < least {
			t.Fatalf("Wait(%v) = %v is below %v", short, timing.Wait(short), least)
		}
		// Two clocks whose rates differ by drift: the holder's lease ends before our wait.
		if slow := time.Duration(float64(timing.Wait(short)) / (1 + timing.Drift)); slow < short {
			t.Fatalf("a clock that is faster by the drift waits %v for a lease of %v", slow, short)
		}
	})
}

func TestShortestSessionIsAccepted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		timing := timings().Draw(t, "timing")
		need := timing.sessionFor() + time.Millisecond // it is rounded down to whole nanoseconds
		if err := timing.CheckSession(need); err != nil {
			t.Fatalf("the advice is not taken: %v", err)
		}
		if timing.CheckSession(timing.sessionFor()-time.Millisecond) == nil {
			t.Fatalf("a session shorter than the advised %v is accepted", timing.sessionFor())
		}
	})
}

func TestTimingValidate(t *testing.T) {
	good := Timing{Lease: 3 * time.Second, Renew: 500 * time.Millisecond, Drift: 0.1}
	for _, tt := range []struct {
		name    string
		change  func(*Timing)
		wantErr string
	}{
		{"defaults", func(*Timing) {}, ""},
		{"one second", func(t *Timing) { t.Lease, t.Renew = time.Second, DefaultRenew(time.Second) }, ""},
		{"lease too short", func(t *Timing) { t.Lease = 999 * time.Millisecond }, "lease 999ms is too short: expected at least 1s"},
		{"lease and lateness fill Lmax", func(t *Timing) { t.Lease, t.Lateness = 9*time.Second, time.Second }, ""},
		{"lease and lateness above Lmax", func(t *Timing) { t.Lease, t.Lateness = 9*time.Second, 1001*time.Millisecond },
			"lease 9s plus a fence lateness of 1.001s is above 10s: shorten the lease to at most 8.999s"},
		{"negative lateness", func(t *Timing) { t.Lateness = -1 }, "fence lateness -1ns is negative"},
		{"no renewals", func(t *Timing) { t.Renew = 0 }, "renewal interval 0s does not fit a lease of 3s: expected more than 0 and at most a third of the lease"},
		{"renewals too rare", func(t *Timing) { t.Renew = 1001 * time.Millisecond }, "renewal interval 1.001s does not fit a lease of 3s: expected more than 0 and at most a third of the lease"},
		{"negative drift", func(t *Timing) { t.Drift = -0.1 }, "drift -0.1 is out of range: expected 0 to 0.5"},
		{"drift too large", func(t *Timing) { t.Drift = 0.6 }, "drift 0.6 is out of range: expected 0 to 0.5"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			timing := good
			tt.change(&timing)
			got := ""
			if err := timing.Validate(); err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(tt.wantErr, got); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
}
