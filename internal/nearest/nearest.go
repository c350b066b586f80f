// Package nearest finds the word that somebody most likely meant.
package nearest

import (
	"fmt"
	"strings"
)

// Word returns the one of words that s most likely means: one that begins with
// s, or differs in about a third of the letters at most; "" if there is none,
// or s is longer than 40 bytes.
func Word(s string, words []string) string {
	best, bestDistance := "", 1+(len(s)+1)/3
	if len(s) > 40 {
		return ""
	}
	for _, w := range words {
		if len(s) >= 3 && strings.HasPrefix(w, s) {
			return w
		}
		if d := distance(s, w); d < bestDistance {
			best, bestDistance = w, d
		}
	}
	return best
}

// distance is the number of letters to insert, delete, replace or swap with
// their neighbor to make b out of a (optimal string alignment).
func distance(a, b string) int {
	before, row, next := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			next[j] = min(row[j]+1, next[j-1]+1, row[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, row, next = row, next, before
	}
	return row[len(b)]
}

// DidYouMean is the hint after a word that is not among words: a question in
// parentheses with a blank before it, or "".
func DidYouMean(s string, words []string) string {
	if w := Word(s, words); w != "" {
		return fmt.Sprintf(" (did you mean %q?)", w)
	}
	return ""
}
