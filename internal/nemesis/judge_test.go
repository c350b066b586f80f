package nemesis

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

const ms = time.Millisecond

// answered are a host's answers to the requests that were sent every 5 ms from one
// time until before another.
func answered(host string, from, until, took time.Duration) (claims []Claim) {
	for at := from; at < until; at += 5 * ms {
		claims = append(claims, Claim{Host: host, Asked: at, At: at + took, Request: uint32(at / (5 * ms))})
	}
	return claims
}

func join(all ...[]Claim) (claims []Claim) {
	for _, c := range all {
		claims = append(claims, c...)
	}
	return claims
}

func TestJudge(t *testing.T) {
	second := func(n int) time.Duration { return time.Duration(n) * time.Second }
	for name, c := range map[string]struct {
		claims  []Claim
		removed map[string][]time.Duration
		delay   time.Duration
		want    []Overlap
	}{
		"nobody": {},
		"one":    {claims: answered("a", second(1), second(2), ms)},
		"one after the other": {
			claims: join(answered("a", second(1), second(2), ms), answered("b", second(2), second(3), ms)),
		},
		"there and back, the address was removed between": {
			claims:  join(answered("a", second(1), second(2), ms), answered("b", second(2), second(3), ms), answered("a", second(3), second(4), ms)),
			removed: map[string][]time.Duration{"a": {second(2) + ms}},
		},
		"there and back, and it was not": {
			claims:  join(answered("a", second(1), second(2), ms), answered("b", second(2), second(3), ms), answered("a", second(3), second(4), ms)),
			removed: map[string][]time.Duration{"a": {second(4) + 200*ms}, "b": {second(3)}},
			want:    []Overlap{{Hosts: [2]string{"a", "b"}, From: second(2) + ms, Until: second(3) - 4*ms, Interleaved: true}}, // the last answer of b, between two of a
		},
		"both answer": {
			claims: join(answered("a", second(1), second(2), ms), answered("b", second(2)-100*ms, second(3), ms)),
			want:   []Overlap{{Hosts: [2]string{"a", "b"}, From: second(2) - 100*ms, Until: second(2) - 4*ms, Requests: 20, Interleaved: true}},
		},
		"a single answer between those of another": {
			claims: join(answered("a", second(1), second(2), ms), []Claim{{Host: "b", Asked: 1500*ms + ms, At: 1500*ms + 2*ms, Request: 9999}}),
			want:   []Overlap{{Hosts: [2]string{"a", "b"}, From: 1500*ms + ms, Until: 1500*ms + 2*ms, Interleaved: true}},
		},
		"answers that came late prove nothing": {
			claims: join(answered("a", second(1), second(2), 300*ms), answered("b", second(2), second(3), ms)),
		},
		"announced when the other had taken over": {
			claims: join(answered("a", second(1), second(2), ms), answered("b", second(2), second(4), ms), []Claim{{Host: "a", At: second(3)}}),
			want:   []Overlap{{Hosts: [2]string{"a", "b"}, From: second(3), Until: second(3), Announced: true}},
		},
		"announced, but it may have been on its way": {
			claims: join(answered("a", second(1), second(2), ms), answered("b", second(2), second(4), ms), []Claim{{Host: "a", At: second(3)}}),
			delay:  second(1),
		},
		"a stranger": {
			claims: join(answered("a", second(1), second(2), ms), answered("02:00:00:00:00:01", second(1), second(1)+10*ms, ms)),
			want:   []Overlap{{Hosts: [2]string{"02:00:00:00:00:01", "a"}, From: second(1), Until: second(1) + 6*ms, Requests: 2, Interleaved: true}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, Judge(c.claims, c.removed, c.delay)); diff != "" {
				t.Errorf("overlaps (-want +got):\n%s", diff)
			}
		})
	}
}

// Hosts that take turns, and bind anew each time, are never accused, whatever the
// delays of answers and notices; two that hold at once for three requests always are.
func TestJudgeIsFair(t *testing.T) {
	hosts := []string{"a", "b", "c"}
	rapid.Check(t, func(t *rapid.T) {
		delay := func(label string, most time.Duration) time.Duration {
			return time.Duration(rapid.IntRange(0, int(most/ms)).Draw(t, label)) * ms
		}
		removed := map[string][]time.Duration{}
		var claims []Claim
		at, last := time.Second, ""
		answer := func(host string, from, until time.Duration) {
			for asked := from.Truncate(5 * ms); asked <= until; asked += 5 * ms {
				given := max(from, asked) // at the earliest when it held
				claims = append(claims, Claim{Host: host, Asked: asked, At: given + delay("late", 20*ms), Request: uint32(asked / (5 * ms))})
			}
		}
		for range rapid.IntRange(1, 8).Draw(t, "turns") {
			host := rapid.SampledFrom(hosts).Draw(t, "host")
			until := at + delay("holds", 300*ms)
			if host != last || len(claims) == 0 {
				answer(host, at+ms, until)
				removed[host] = append(removed[host], until+ms+delay("notice", lateNotice-2*ms))
			}
			last = host
			at = until + 10*ms + delay("gap", 100*ms) // the next request is another one
		}
		if found := Judge(claims, removed, 0); len(found) > 0 {
			t.Fatalf("accused: %+v", found)
		}
		culprit := last + "'"
		claims = append(claims, answered(last, at+time.Second, at+2*time.Second, ms)...)
		claims = append(claims, answered(culprit, at+1500*ms, at+1515*ms, ms)...)
		found := Judge(claims, removed, 0)
		if len(found) != 1 || found[0].Hosts != pair(last, culprit) || found[0].Requests != 3 {
			t.Fatalf("not accused, or wrongly: %+v", found)
		}
	})
}
