package spec

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unique"

	"github.com/goccy/go-yaml/ast"
)

// scalarOf is the codec of a scalar. parse returns what is wrong as an error of
// the form "what; expected what".
func scalarOf[T any](dst *T, expected string, parse func(scalar) (T, error), format func(T) string) codec {
	return codec{
		decode: func(v value) {
			s, ok := v.scalar(expected)
			if !ok {
				return
			}
			x, err := parse(s)
			if err != nil {
				v.failf("%s", err)
				return
			}
			*dst = x
		},
		encode: func() element { return scalarElement(format(*dst)) },
	}
}

// text is a text with a check of its own; an empty one is not written.
func text(dst *string, expected string, check func(string) error) codec {
	c := scalarOf(dst, expected, func(s scalar) (string, error) { return shared(s.text), check(s.text) }, quote)
	encode := c.encode
	c.encode = func() element {
		if *dst == "" {
			return element{}
		}
		return encode()
	}
	return c
}

// shared is s itself, kept once for all documents.
func shared(s string) string { return unique.Make(s).Value() }

func name(dst *string) codec { return text(dst, nameExpected, CheckName) }

// duration accepts lo to hi.
func duration(dst *time.Duration, lo, hi time.Duration) codec {
	expected := fmt.Sprintf("a duration with its unit from %s to %s", FormatDuration(lo), FormatDuration(hi))
	return scalarOf(dst, expected, func(s scalar) (time.Duration, error) {
		if bareNumber(s.text) {
			return 0, fmt.Errorf("%s is a bare number; expected %s, such as %ss", printable(s.text), expected, printable(strings.TrimLeft(s.text, "+-")))
		}
		d, err := time.ParseDuration(s.text)
		if err != nil {
			return 0, fmt.Errorf("%q is no duration; expected %s, such as 5s or 500ms", printable(s.text), expected)
		}
		if d < lo || d > hi {
			return 0, fmt.Errorf("%s is out of range; expected %s", printable(s.text), expected)
		}
		return d, nil
	}, FormatDuration)
}

func bareNumber(s string) bool {
	return s != "" && strings.Trim(s, "+-.0123456789") == ""
}

// FormatDuration writes d as users do: 1m instead of 1m0s.
func FormatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// integer accepts decimal numbers from lo to hi.
func integer(dst *int, lo, hi int) codec {
	expected := fmt.Sprintf("a whole number from %d to %d", lo, hi)
	return scalarOf(dst, expected, func(s scalar) (int, error) { return parseInteger(s, lo, hi, expected) }, strconv.Itoa)
}

func parseInteger(s scalar, lo, hi int, expected string) (int, error) {
	n, err := strconv.Atoi(s.text)
	if s.quoted || err != nil || strconv.Itoa(n) != s.text {
		return 0, fmt.Errorf("%q is no whole number; expected %s", printable(s.text), unquoted(s, expected))
	}
	if n < lo || n > hi {
		return 0, fmt.Errorf("%d is out of range; expected %s", n, expected)
	}
	return n, nil
}

func unquoted(s scalar, expected string) string {
	if s.quoted {
		return expected + " without quotes"
	}
	return expected
}

// number accepts decimal fractions from lo to hi.
func number(dst *float64, lo, hi float64) codec {
	expected := fmt.Sprintf("a number from %s to %s", formatNumber(lo), formatNumber(hi))
	return scalarOf(dst, expected, func(s scalar) (float64, error) {
		x, err := strconv.ParseFloat(s.text, 64)
		if s.quoted || err != nil || strings.Trim(s.text, "0123456789.") != "" {
			return 0, fmt.Errorf("%q is no number; expected %s", printable(s.text), unquoted(s, expected))
		}
		if x < lo || x > hi {
			return 0, fmt.Errorf("%s is out of range; expected %s", printable(s.text), expected)
		}
		return x, nil
	}, formatNumber)
}

func formatNumber(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }

func boolean(dst *bool) codec {
	const expected = "true or false"
	return scalarOf(dst, expected, func(s scalar) (bool, error) {
		if s.quoted || s.text != "true" && s.text != "false" {
			return false, fmt.Errorf("%q is neither true nor false; expected %s", printable(s.text), unquoted(s, expected))
		}
		return s.text == "true", nil
	}, strconv.FormatBool)
}

// choice accepts one of words.
func choice[T ~string](dst *T, what string, words ...T) codec {
	all := make([]string, len(words))
	for i, w := range words {
		all[i] = string(w)
	}
	expected := "one of " + strings.Join(all, ", ")
	if len(all) == 1 {
		expected = all[0]
	}
	return scalarOf(dst, expected, func(s scalar) (T, error) {
		if !slices.Contains(all, s.text) {
			return "", fmt.Errorf("%q is no %s; expected %s%s", printable(s.text), what, expected, DidYouMean(s.text, all))
		}
		return words[slices.Index(all, s.text)], nil // no text of the document's is kept
	}, func(w T) string { return quote(string(w)) })
}

// unset leaves the zero value, which no word stands for, unwritten.
func unset[T comparable](dst *T, c codec) codec {
	encode := c.encode
	c.encode = func() element {
		if *dst == fresh[T]() {
			return element{}
		}
		return encode()
	}
	return c
}

// sub is the codec of a nested mapping that is always there.
func sub(bind func() schema, defaults func() schema) codec {
	return codec{
		decode: func(v value) { bind().decode(v) },
		encode: func() element { return written(bind().encode(defaults())) },
		nested: func() []field { return defaults().fields },
	}
}

// written makes an empty mapping absent.
func written(e element) element {
	if len(e.pairs) == 0 {
		return element{}
	}
	return e
}

// maybe is the codec of a nested mapping that may be missing (nil).
func maybe[T any](dst **T, fresh func() T, bind func(*T) schema) codec {
	return codec{
		decode: func(v value) {
			x := fresh()
			if !v.null() {
				bind(&x).decode(v)
			}
			*dst = &x
		},
		encode: func() element {
			if *dst == nil {
				return element{}
			}
			x := fresh()
			return bind(*dst).encode(bind(&x))
		},
		nested: func() []field {
			x := fresh()
			return bind(&x).fields
		},
	}
}

// listOf is the codec of a list; one gives the codec of an item. flow writes it
// on one line. Items at fault keep what fresh gave them.
func listOf[T any](dst *[]T, what string, flow bool, fresh func() T, one func(*T) codec) codec {
	return codec{
		decode: func(v value) {
			items, ok := v.items(what)
			if !ok {
				return
			}
			list, lines := make([]T, len(items)), make([]int, len(items))
			for i, item := range items {
				list[i], lines[i] = fresh(), item.line
			}
			v.r.marks.items(v.doc, v.field, lines)
			for i, item := range items {
				one(&list[i]).decode(item)
			}
			if *dst = list; len(list) == 0 {
				*dst = nil
			}
		},
		encode: func() element {
			if len(*dst) == 0 {
				return element{}
			}
			e := element{kind: list}
			if flow {
				e.kind = flowSeq
			}
			for i := range *dst {
				e.items = append(e.items, one(&(*dst)[i]).encode())
			}
			return e
		},
		nested: func() []field {
			x := fresh()
			if c := one(&x); c.nested != nil {
				return c.nested()
			}
			return nil
		},
	}
}

// nonEmpty refuses an empty list. what is one item.
func nonEmpty(c codec, what string) codec {
	decode := c.decode
	c.decode = func(v value) {
		if seq, ok := v.node.(*ast.SequenceNode); ok && len(seq.Values) == 0 {
			v.failf("is an empty list; expected at least one %s", what)
			return
		}
		decode(v)
	}
	return c
}

// row is the codec of a list's item that is a mapping.
func row[T any](dst *T, fresh func() T, bind func(*T) schema) codec {
	return codec{
		decode: func(v value) { bind(dst).decode(v) },
		encode: func() element {
			x := fresh()
			return bind(dst).encode(bind(&x))
		},
		nested: func() []field { return bind(dst).fields },
	}
}

// mapOf is the codec of a mapping from names to values.
func mapOf[T any](dst *map[string]T, what string, one func(*T) codec) codec {
	return codec{
		decode: func(v value) {
			entries, ok := v.entries(what)
			if !ok {
				return
			}
			*dst = make(map[string]T, len(entries))
			for _, e := range entries {
				if err := CheckName(e.key); err != nil {
					e.value.failf("%s", err)
					continue
				}
				var x T
				one(&x).decode(e.value)
				(*dst)[e.key] = x
			}
		},
		encode: func() element {
			e := element{kind: mapping}
			for _, key := range slices.Sorted(maps.Keys(*dst)) {
				x := (*dst)[key]
				e.pairs = append(e.pairs, pair{key, one(&x).encode()})
			}
			return written(e)
		},
	}
}
