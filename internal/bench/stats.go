package bench

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Median returns the middle value, of an even number the mean of the two in the
// middle. It is a lower bound if a value that is not above it is one. It panics
// without values.
func Median(values []Value) Value {
	sorted := slices.SortedFunc(slices.Values(values), func(a, b Value) int { return cmp.Compare(a.V, b.V) })
	upper := len(sorted) / 2
	m := Value{V: (sorted[(len(sorted)-1)/2].V + sorted[upper].V) / 2}
	m.AtLeast = slices.ContainsFunc(sorted[:upper+1], func(v Value) bool { return v.AtLeast })
	return m
}

// Max returns the largest value, a lower bound if any value is one. It panics
// without values.
func Max(values []Value) Value {
	m := slices.MaxFunc(values, func(a, b Value) int { return cmp.Compare(a.V, b.V) })
	m.AtLeast = slices.ContainsFunc(values, func(v Value) bool { return v.AtLeast })
	return m
}

// Sum adds the values, a lower bound if any value is one.
func Sum(values []Value) (s Value) {
	for _, v := range values {
		s.V += v.V
		s.AtLeast = s.AtLeast || v.AtLeast
	}
	return s
}

// rounding says which way a figure is rounded: zklvs's own up, others' down, and
// ratios down, so that no figure flatters.
type rounding func(float64) float64

// round rounds to three significant digits.
func (to rounding) round(v float64) float64 {
	if v == 0 {
		return 0
	}
	scale := math.Pow(10, 2-math.Floor(math.Log10(math.Abs(v))))
	// What is three digits already, but for the last bits of its binary form, stays.
	if near := math.Round(v * scale); math.Abs(near-v*scale) < 1e-9*math.Abs(near) {
		return near / scale
	}
	return to(v*scale) / scale
}

// roundingOf is the direction for a contender's figures, where less is better.
func roundingOf(contender string) rounding {
	if strings.HasPrefix(contender, Zklvs) {
		return math.Ceil
	}
	return math.Floor
}

// show prints a value in its unit.
func show(v Value, unit string, to rounding) string {
	prefix := ""
	if v.AtLeast {
		prefix = "≥ "
	}
	rounded := to.round(v.V)
	switch {
	case unit != "s":
		return prefix + digits(rounded)
	case rounded == 0:
		return prefix + "0"
	case rounded < 1:
		return prefix + digits(to.round(v.V*1000)) + " ms"
	}
	return prefix + digits(rounded) + " s"
}

func digits(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// Ratio is theirs : ours, where less is better: how many times zklvs is ahead;
// below 1 it is behind.
type Ratio struct {
	Value
	None bool // there is none: ours is zero
}

// RatioOf divides theirs by ours. A lower bound of ours makes it worthless.
func RatioOf(theirs, ours Value) Ratio {
	if ours.V == 0 || ours.AtLeast {
		return Ratio{None: true}
	}
	return Ratio{Value: Value{V: theirs.V / ours.V, AtLeast: theirs.AtLeast}}
}

func (r Ratio) String() string {
	if r.None {
		return "-"
	}
	if v := r.V; v >= 100 {
		r.V = math.Floor(v)
	}
	return fmt.Sprintf("%s : 1", show(r.Value, "", math.Floor))
}
