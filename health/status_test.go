package health

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// statuses is Statuses for sets that a test knows to be right.
func statuses(ranges ...StatusRange) StatusSet {
	set, err := Statuses(ranges...)
	if err != nil {
		panic(err)
	}
	return set
}

func TestStatusesText(t *testing.T) {
	for _, tt := range []struct {
		name   string
		ranges []StatusRange
		want   string
	}{
		{"empty", nil, ""},
		{"one", []StatusRange{{200, 200}}, "200"},
		{"ends of what there is", []StatusRange{{599, 599}, {100, 100}}, "100,599"},
		{"all", []StatusRange{{100, 599}}, "100-599"},
		{"neighbors and overlaps merge", []StatusRange{{204, 206}, {200, 203}, {202, 205}, {301, 301}}, "200-206,301"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := statuses(tt.ranges...).String(); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestStatusesRefuses(t *testing.T) {
	for _, r := range []StatusRange{{99, 200}, {200, 600}, {300, 200}, {0, 0}, {-5, 200}} {
		if _, err := Statuses(r); err == nil {
			t.Errorf("%v: accepted", r)
		}
	}
	_, err := Statuses(StatusRange{200, 200}, StatusRange{20, 30})
	if want := "status 20-30: expected a range within 100-599"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %q", err, want)
	}
}

func TestStatusSetHasWhatItWasMadeOf(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		code := rapid.IntRange(minStatus, maxStatus)
		codes := rapid.SliceOf(code).Draw(t, "codes")
		want := make(map[int]bool)
		var ranges []StatusRange
		for _, c := range codes {
			want[c] = true
			ranges = append(ranges, StatusRange{c, c})
		}
		set := statuses(ranges...)
		got := make(map[int]bool)
		for c := -1; c < 1000; c++ {
			if set.Contains(c) {
				got[c] = true
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("codes (-want +got):\n%s", diff)
		}
		if again := statuses(set.ranges()...); again != set {
			t.Fatalf("ranges %v make another set: %s", set.ranges(), again)
		}
	})
}
