package election

import (
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// lockPattern is what ParseLockName implements by hand.
var lockPattern = regexp.MustCompile(`^([a-z0-9][a-z0-9.-]{0,62})-([0-9a-f]{16})-([0-9a-f]{16})-(\d{10})$`)

func nodeNames() *rapid.Generator[string] {
	return rapid.StringMatching(`[a-z0-9][a-z0-9.-]{0,62}`)
}

func lockNames() *rapid.Generator[LockName] {
	return rapid.Custom(func(t *rapid.T) LockName {
		return LockName{
			Node:     nodeNames().Draw(t, "node"),
			Session:  rapid.Uint64().Draw(t, "session"),
			Random:   rapid.Uint64().Draw(t, "random"),
			Sequence: rapid.Int64Range(0, 1<<31-1).Draw(t, "sequence"),
		}
	})
}

func TestLockNameRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := lockNames().Draw(t, "lock")
		got, err := ParseLockName(want.String())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("lock name changed (-want +got):\n%s", diff)
		}
	})
}

func TestParseLockName(t *testing.T) {
	const tail = "-0000000000000001-00000000000000ff-0000000007"
	for _, tt := range []struct {
		name, in string
		want     LockName
		ok       bool
	}{
		{"plain", "node01" + tail, LockName{"node01", 1, 255, 7}, true},
		{"dashes and dots in the node", "a-b.c-0" + tail, LockName{"a-b.c-0", 1, 255, 7}, true},
		{"a node that looks like a tail", "a" + tail + tail, LockName{"a" + tail, 1, 255, 7}, true},
		{"node of 63", strings.Repeat("x", 63) + tail, LockName{strings.Repeat("x", 63), 1, 255, 7}, true},
		{"node of 64", strings.Repeat("x", 64) + tail, LockName{}, false},
		{"no node", tail, LockName{}, false},
		{"no node but a dash", "-" + tail, LockName{}, false},
		{"node begins with a dot", ".a" + tail, LockName{}, false},
		{"upper case node", "Node" + tail, LockName{}, false},
		{"upper case digits", "n-000000000000000A-00000000000000ff-0000000007", LockName{}, false},
		{"sequence of 9 digits", "n-0000000000000001-00000000000000ff-000000007", LockName{}, false},
		{"negative sequence", "n-0000000000000001-00000000000000ff--000000007", LockName{}, false},
		{"sequence in hexadecimal", "n-0000000000000001-00000000000000ff-000000000a", LockName{}, false},
		{"wrong separator", "n-0000000000000001_00000000000000ff-0000000007", LockName{}, false},
		{"slash", "a/b" + tail, LockName{}, false},
		{"newline at the end", "node01" + tail + "\n", LockName{}, false},
		{"empty", "", LockName{}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseLockName(tt.in)
			if got != tt.want || (err == nil) != tt.ok {
				t.Errorf("ParseLockName(%q) = %+v, %v; want %+v, ok %v", tt.in, got, err, tt.want, tt.ok)
			}
		})
	}
}

func FuzzParseLockName(f *testing.F) {
	f.Add(LockName{Node: "node01", Session: 1, Random: 1 << 63, Sequence: 9}.String())
	f.Add("n-0000000000000001-00000000000000FF-0000000007")
	f.Add("-")
	f.Fuzz(func(t *testing.T, name string) {
		got, err := ParseLockName(name)
		if matches := lockPattern.MatchString(name); matches != (err == nil) {
			t.Fatalf("ParseLockName(%q): %v, the pattern says %v", name, err, matches)
		}
		if err == nil && got.String() != name {
			t.Fatalf("ParseLockName(%q) is the name %q", name, got)
		}
	})
}

func records() *rapid.Generator[Record] {
	return rapid.Custom(func(t *rapid.T) Record {
		text := rapid.String()
		r := Record{
			Format: RecordFormat,
			State:  rapid.SampledFrom([]State{StateReleased, StateHolding, StateUnknown}).Draw(t, "state"),
			Epoch:  rapid.Uint64().Draw(t, "epoch"),
			Node:   rapid.SampledFrom([]string{"", "node01"}).Draw(t, "node"),
			HostID: HostID{text.Draw(t, "machine"), text.Draw(t, "boot"), rapid.Uint64().Draw(t, "netns")},
			Since:  text.Draw(t, "since"), Reason: text.Draw(t, "reason"), ReleasedTo: text.Draw(t, "to"),
			LeaseMS: rapid.Int64Range(1, MaxLease.Milliseconds()).Draw(t, "lease"),
		}
		if r.State == StateHolding || r.State == StateReleased && rapid.Bool().Draw(t, "held") {
			r.Lock = lockNames().Draw(t, "lock").String()
		}
		return r
	})
}

func TestRecordRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := records().Draw(t, "record")
		got, err := DecodeRecord(want.Encode())
		if err != nil {
			t.Fatalf("DecodeRecord(%s): %v", want.Encode(), err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("record changed (-want +got):\n%s", diff)
		}
	})
}

func TestDecodeRecord(t *testing.T) {
	lock := LockName{Node: "node01", Session: 1, Random: 2, Sequence: 3}.String()
	for _, tt := range []struct{ name, in, wantErr string }{
		{"never held", `{"format":1,"state":"released","epoch":0,"lease_ms":10000,"since":""}`, ""},
		{"holding", `{"format":1,"state":"holding","epoch":1,"lock":"` + lock + `","lease_ms":3000,"since":""}`, ""},
		{"unknown field", `{"format":1,"state":"released","quorum":3}`, `record is not understood: json: unknown field "quorum"`},
		{"next format", `{"format":2,"state":"released"}`, "record of format 2 is not understood: expected 1; run one version of zklvs on all directors"},
		{"no format", `{"state":"released"}`, "record of format 0 is not understood: expected 1; run one version of zklvs on all directors"},
		{"unknown state", `{"format":1,"state":"paused"}`, `record state "paused" is not understood: expected released, holding or unknown`},
		{"holding without a lock", `{"format":1,"state":"holding","lease_ms":3000}`, `record in state holding: "" is not the name of a lock: expected <node>-<session>-<random>-<sequence>`},
		{"a receipt for nonsense", `{"format":1,"state":"released","lock":"x"}`, `record in state released: "x" is not the name of a lock: expected <node>-<session>-<random>-<sequence>`},
		{"no lease", `{"format":1,"state":"unknown"}`, "record lease_ms 0 is out of range: expected 1 to 10000"},
		{"lease too long", `{"format":1,"state":"unknown","lease_ms":10001}`, "record lease_ms 10001 is out of range: expected 1 to 10000"},
		{"lease that overflows", `{"format":1,"state":"unknown","lease_ms":9223372036854775}`, "record lease_ms 9223372036854775 is out of range: expected 1 to 10000"},
		{"two objects", `{"format":1,"state":"released"}{}`, "record is not understood: data after the JSON object"},
		{"empty", ``, "record is not understood: EOF"},
		{"too long", `{"reason":"` + strings.Repeat("x", maxRecord) + `"}`, "record of 16397 bytes is above the limit of 16384"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := DecodeRecord([]byte(tt.in))
			got := ""
			if err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(tt.wantErr, got); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzDecodeRecord(f *testing.F) {
	f.Add(NewRecord(false, time.Unix(0, 0)).Encode())
	f.Add(Record{Format: 1, State: StateHolding, Lock: LockName{Node: "a"}.String(), LeaseMS: 3000}.Encode())
	f.Add([]byte(`{"format":1,"state":"released","machine_id":"m"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := DecodeRecord(data)
		if err != nil {
			return
		}
		if r.State != StateReleased && (r.Lease() < time.Millisecond || r.Lease() > MaxLease) {
			t.Fatalf("%s: lease %v", data, r.Lease())
		}
		again, err := DecodeRecord(r.Encode())
		if err != nil && len(r.Encode()) <= maxRecord {
			t.Fatalf("%s cannot be written again: %v", data, err)
		}
		if diff := cmp.Diff(r, again); err == nil && diff != "" {
			t.Fatalf("%s changed (-read +read again):\n%s", data, diff)
		}
	})
}

func FuzzDecodeLockData(f *testing.F) {
	f.Add(LockData{Node: "node01", Priority: 100, Renewals: 7}.Encode())
	f.Add([]byte(`{"priority": 1e99}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := DecodeLockData(data)
		if err != nil {
			if d != (LockData{}) {
				t.Fatalf("%q is not understood but yields %+v", data, d)
			}
			return
		}
		if !json.Valid(data) {
			t.Fatalf("%q was accepted", data)
		}
		if again, err := DecodeLockData(d.Encode()); err != nil || again != d {
			t.Fatalf("%q: %+v became %+v, %v", data, d, again, err)
		}
	})
}

func TestDecodeLockDataLimit(t *testing.T) {
	if _, err := DecodeLockData(make([]byte, maxRecord+1)); err == nil || !strings.Contains(err.Error(), strconv.Itoa(maxRecord)) {
		t.Errorf("got %v", err)
	}
}

func FuzzDecodeVoters(f *testing.F) {
	f.Add(NewVoters().Encode())
	f.Add(NewVoters().with(Voter{"a", "m", "10.0.0.1:7363"}).with(Voter{"b", "n", ""}).Encode())
	f.Add([]byte(`{"format":1,"voters":[{"node":"a"}]}`))
	f.Add([]byte(`{"format":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := DecodeVoters(data)
		if err != nil {
			return
		}
		for _, one := range v.Voters {
			if !v.mayTake(one) || len(one.Node) > maxNode || len(one.Address) > maxVoterField || len(one.MachineID) > maxVoterField {
				t.Fatalf("%s: voter %+v", data, one)
			}
		}
		again, err := DecodeVoters(v.Encode())
		if err != nil || !v.equal(again) {
			t.Fatalf("%s cannot be written again: %v", data, err)
		}
	})
}
