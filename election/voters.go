package election

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

const (
	// VotersFormat is the format of the list of voters that this version writes.
	// A list of another format is not understood: nobody takes without a receipt.
	VotersFormat = 1
	// maxVoters bounds the list. A director beyond it takes with a receipt only.
	maxVoters = 32
	// maxVoterField bounds a voter's address and its machine-id, in bytes.
	maxVoterField = 64
)

// Voter is a director that may acquire a group without a receipt.
type Voter struct {
	Node      string `json:"node"`
	MachineID string `json:"machine_id"`
	// Address is where it answers questions, host:port; empty if nowhere.
	Address string `json:"address,omitempty"`
}

// same reports whether both are one director, wherever it answers.
func (v Voter) same(o Voter) bool { return v.Node == o.Node && v.MachineID == o.MachineID }

// Voters is a group's znode below `voters`: the directors that may acquire it
// without a receipt. None means everyone. Only the holder writes it. It stands
// outside of the group's own tree, so that it outlives a record that is deleted.
type Voters struct {
	Format int     `json:"format"`
	Voters []Voter `json:"voters,omitempty"`
}

// NewVoters returns the list that lets everyone acquire.
func NewVoters() Voters { return Voters{Format: VotersFormat} }

// Encode returns the list as one JSON object.
func (v Voters) Encode() []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("election: encode voters: " + err.Error())
	}
	return b
}

// DecodeVoters reads a list strictly: with an error nobody may take without a
// receipt.
func DecodeVoters(data []byte) (Voters, error) {
	var v Voters
	if err := decodeStrict("list of voters", data, &v); err != nil {
		return Voters{}, err
	}
	if v.Format != VotersFormat {
		return Voters{}, fmt.Errorf("list of voters of format %d is not understood: expected %d; run one version of zklvs on all directors", v.Format, VotersFormat)
	}
	if len(v.Voters) > maxVoters {
		return Voters{}, fmt.Errorf("list of %d voters is above the limit of %d", len(v.Voters), maxVoters)
	}
	for _, one := range v.Voters {
		if !isNode(one.Node) || len(one.Node) > maxNode || len(one.MachineID) > maxVoterField || len(one.Address) > maxVoterField {
			return Voters{}, fmt.Errorf("voter %.80q at %.80q is not understood: expected a node's name and host:port", one.Node, one.Address)
		}
	}
	return v, nil
}

func (v Voters) has(one Voter) bool { return slices.ContainsFunc(v.Voters, one.same) }

// mayTake reports whether a director may acquire without a receipt.
func (v Voters) mayTake(one Voter) bool { return len(v.Voters) == 0 || v.has(one) }

func (v Voters) equal(o Voters) bool { return slices.Equal(v.Voters, o.Voters) }

// with returns the list with a voter in it, at the address given.
func (v Voters) with(one Voter) Voters {
	if one.MachineID == "" || len(one.MachineID) > maxVoterField || len(one.Address) > maxVoterField {
		return v
	}
	list := slices.Clone(v.Voters)
	if i := slices.IndexFunc(list, one.same); i >= 0 {
		list[i].Address = one.Address
	} else if len(list) < maxVoters {
		list = append(list, one)
	}
	slices.SortFunc(list, func(a, b Voter) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.MachineID, b.MachineID))
	})
	return Voters{Format: VotersFormat, Voters: list}
}

// self is this director as a voter.
func (m *Machine) self() Voter {
	return Voter{Node: m.cfg.Node, MachineID: m.cfg.Host.MachineID, Address: m.cfg.Address}
}

// votersWanted returns the list as this holder would have it.
func (g *group) votersWanted(now time.Duration) Voters {
	if !g.cfg.Hold {
		return NewVoters()
	}
	list := g.view.voters.with(g.m.self())
	for _, w := range g.view.locks {
		list = list.with(w.voter())
	}
	list.Voters = slices.DeleteFunc(slices.Clone(list.Voters), func(v Voter) bool { return g.longGone(now, v) })
	if len(list.Voters) < 2 { // a lone director has nobody to ask
		return NewVoters()
	}
	return list
}

// longGone reports whether a voter is to be dropped.
func (g *group) longGone(now time.Duration, v Voter) bool {
	key := v.Node + " " + v.MachineID
	if v.same(g.m.self()) || slices.ContainsFunc(g.view.locks, func(w waiter) bool { return w.voter().same(v) }) {
		delete(g.missed, key)
		return false
	}
	since, known := g.missed[key]
	if !known {
		g.missed[key] = now
		return false
	}
	return now-since >= g.m.cfg.ForgetVoter
}

// wantVoters lets the holder write the list where it is not as it should be. The
// write is a renewal too: the wait of whoever is added begins with it.
func (g *group) wantVoters(now time.Duration) bool {
	if g.phase != PhaseHolding || g.deadline == 0 || g.lookAgain || !g.listRead || !g.votersDue {
		return false
	}
	g.votersDue = false
	v := &g.view
	if v.votersProblem != "" { // perhaps a newer version's: not to be destroyed
		return false
	}
	want := g.votersWanted(now)
	if v.votersExist && want.equal(v.voters) && (g.hold.written || len(want.Voters) == 0) {
		return false
	}
	g.hold.attempt(want)
	op := Op{Kind: OpSet, Key: g.key(NodeVoters, ""), Version: v.votersVersion, Data: want.Encode()}
	if !v.votersExist {
		op = Op{Kind: OpCreate, Key: op.Key, Data: op.Data}
	}
	g.nextRenew = now + g.m.cfg.Timing.Renew
	g.listRead = false
	holding := g.holding()
	g.m.send(now, Request{Txn: append(g.renewal(), op)}, func(at time.Duration, r Reply) {
		if g.phase != PhaseHolding || g.holding() != holding {
			return
		}
		g.nextVoters, g.nextObserve = at, at
		switch {
		case r.Outcome == OutcomeOK:
			g.hold.confirmed(want)
			g.view.voters = want
			g.extend(at, now)
		case r.Outcome == OutcomeConflict && r.FailedOp < opsPerRenewal:
			g.fence(at, fmt.Sprintf("the renewal was refused: %s", g.renewalRefusal(r)))
		case r.Outcome == OutcomeConflict: // written by another, or by hand: read it again
			g.hold.refused()
			g.nextRenew = at
		default:
			g.hold.doubt = true
			g.nextRenew = at
		}
	})
	return true
}
