package bench

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func values(v ...float64) (list []Value) {
	for _, x := range v {
		list = append(list, Value{V: x})
	}
	return list
}

func TestMedianMaxSum(t *testing.T) {
	bound := func(v float64) Value { return Value{V: v, AtLeast: true} }
	for _, c := range []struct {
		name             string
		values           []Value
		median, max, sum Value
	}{
		{"one", values(3), Value{V: 3}, Value{V: 3}, Value{V: 3}},
		{"odd, in disorder", values(5, 1, 3), Value{V: 3}, Value{V: 5}, Value{V: 9}},
		{"even", values(4, 1, 3, 2), Value{V: 2.5}, Value{V: 4}, Value{V: 10}},
		{"a bound above the median", []Value{{V: 1}, {V: 2}, bound(3)}, Value{V: 2}, bound(3), bound(6)},
		{"a bound below it", []Value{bound(1), {V: 2}, {V: 3}}, bound(2), bound(3), bound(6)},
		{"a bound in the upper middle", []Value{{V: 1}, bound(3)}, bound(2), bound(3), bound(4)},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := []Value{Median(c.values), Max(c.values), Sum(c.values)}
			if diff := cmp.Diff([]Value{c.median, c.max, c.sum}, got); diff != "" {
				t.Errorf("median, maximum, sum (-want +got):\n%s", diff)
			}
		})
	}
}

// At least half of the values are no larger than the median, and half no smaller.
func TestMedianIsInTheMiddle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := values(rapid.SliceOfN(rapid.Float64Range(0, 100), 1, 30).Draw(t, "values")...)
		m, below, above := Median(list).V, 0, 0
		for _, v := range list {
			if v.V <= m {
				below++
			}
			if v.V >= m {
				above++
			}
		}
		if 2*below < len(list) || 2*above < len(list) {
			t.Fatalf("median %v: %d not above, %d not below, of %d", m, below, above, len(list))
		}
	})
}

// Figures of zklvs never become smaller, others never larger.
func TestRoundingFlattersNobody(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.Float64Range(1e-6, 1e6).Draw(t, "value")
		up, down := roundingOf(Zklvs).round(v), roundingOf(Notes).round(v)
		if up < v*(1-1e-8) || down > v*(1+1e-8) || up > v*1.011 || down < v*0.989 {
			t.Fatalf("%v is rounded up to %v, down to %v", v, up, down)
		}
	})
}

func TestShow(t *testing.T) {
	for _, c := range []struct {
		value Value
		unit  string
		to    rounding
		want  string
	}{
		{Value{V: 0}, "s", math.Ceil, "0"},
		{Value{V: 0.0123401}, "s", math.Ceil, "12.4 ms"},
		{Value{V: 0.0123499}, "s", math.Floor, "12.3 ms"},
		{Value{V: 0.9999}, "s", math.Ceil, "1 s"},
		{Value{V: 0.9999}, "s", math.Floor, "999 ms"},
		{Value{V: 3.61}, "s", math.Ceil, "3.61 s"},
		{Value{V: 3.611, AtLeast: true}, "s", math.Floor, "≥ 3.61 s"},
		{Value{V: 10000}, "requests", math.Ceil, "10000"},
		{Value{V: 1.1}, "s", math.Ceil, "1.1 s"},
	} {
		if got := show(c.value, c.unit, c.to); got != c.want {
			t.Errorf("show(%+v) gave %q, want %q", c.value, got, c.want)
		}
	}
}

func TestRatio(t *testing.T) {
	for _, c := range []struct {
		theirs, ours Value
		want         string
	}{
		{Value{V: 3.6}, Value{V: 0.1}, "36 : 1"},
		{Value{V: 1}, Value{V: 3}, "0.333 : 1"},
		{Value{V: 3999}, Value{V: 1}, "3990 : 1"},
		{Value{V: 1, AtLeast: true}, Value{V: 0.5}, "≥ 2 : 1"},
		{Value{V: 1}, Value{V: 0}, "-"},
		{Value{V: 1}, Value{V: 0.5, AtLeast: true}, "-"},
		{Value{V: 0}, Value{V: 0.5}, "0 : 1"},
	} {
		if got := RatioOf(c.theirs, c.ours).String(); got != c.want {
			t.Errorf("%+v to %+v gave %q, want %q", c.theirs, c.ours, got, c.want)
		}
	}
}
