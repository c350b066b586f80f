package nemesis

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// kind is a way to break the cluster.
type kind struct {
	name  string
	about string
	// shortest and longest bound the time until it is healed.
	shortest, longest time.Duration
	// inject strikes. What it returns takes it back: it may be called again, and is
	// called after an error too where it is not nil.
	inject func(ctx context.Context, s *site, p struck) (heal func(context.Context) error, err error)
	// missing says why it cannot be injected here, "" if it can; nil: always.
	missing func(*site) string
	// zooKeeper: the servers are struck; the time for the service to return is
	// counted from their quorum.
	zooKeeper bool
	// recordLost: a record is gone; W of the longest lease is waited out.
	recordLost bool
	// alone: never one of a pair.
	alone bool
	// asked: drawn only where it is asked for by name.
	asked bool
}

const second = time.Second

var kinds = []kind{
	{name: "director-kill", about: "SIGKILL of a director", longest: 2 * second, inject: kill(true, false)},
	{name: "guard-kill", about: "SIGKILL of a guard", longest: second, inject: kill(false, true)},
	{name: "both-kill", about: "SIGKILL of a director and its guard", longest: 2 * second, inject: kill(true, true)},
	{name: "director-stop", about: "SIGSTOP of a director, SIGCONT later", shortest: 200 * time.Millisecond, longest: 3 * second, inject: stop(true, false)},
	{name: "guard-stop", about: "SIGSTOP of a guard, SIGCONT later", shortest: 200 * time.Millisecond, longest: 3 * second, inject: stop(false, true)},
	{name: "both-stop", about: "SIGSTOP of a director and its guard, SIGCONT later", shortest: 200 * time.Millisecond, longest: 3 * second, inject: stop(true, true)},

	{name: "zk-follower-kill", about: "a ZooKeeper follower is killed", shortest: second, longest: 3 * second, inject: killServer("follower"), zooKeeper: true},
	{name: "zk-leader-kill", about: "the ZooKeeper leader is killed", shortest: second, longest: 3 * second, inject: killServer("leader"), zooKeeper: true},
	{name: "zk-follower-freeze", about: "a ZooKeeper follower is frozen", shortest: second, longest: 5 * second, inject: freezeServer("follower"), zooKeeper: true},
	{name: "zk-leader-freeze", about: "the ZooKeeper leader is frozen", shortest: second, longest: 5 * second, inject: freezeServer("leader"), zooKeeper: true},
	{name: "zk-all-kill", about: "all ZooKeeper servers are killed", shortest: second, longest: 4 * second, inject: killEnsemble, zooKeeper: true},
	{name: "zk-all-freeze", about: "all ZooKeeper servers are frozen", shortest: 500 * time.Millisecond, longest: 5 * second, inject: freezeEnsemble, zooKeeper: true},
	{name: "zk-disk-full", about: "the disk under a ZooKeeper server is full", shortest: second, longest: 4 * second, inject: fillDisk, zooKeeper: true},

	{name: "zk-cut-in", about: "nothing from ZooKeeper reaches a director", shortest: second, longest: 4 * second, inject: cut("eth1", true, false)},
	{name: "zk-cut-out", about: "nothing from a director reaches ZooKeeper", shortest: second, longest: 4 * second, inject: cut("eth1", false, true)},
	{name: "zk-cut", about: "a director is cut from ZooKeeper", shortest: second, longest: 4 * second, inject: cut("eth1", true, true)},
	{name: "lan-cut", about: "a director is cut from the LAN", shortest: second, longest: 4 * second, inject: cut("eth0", true, true)},
	{name: "lan-cut-in", about: "nothing from the LAN reaches a director", shortest: second, longest: 4 * second, inject: cut("eth0", true, false)},
	{name: "lan-cut-out", about: "nothing from a director reaches the LAN", shortest: second, longest: 4 * second, inject: cut("eth0", false, true)},
	{name: "all-cut", about: "a director is cut from LAN and ZooKeeper", shortest: second, longest: 4 * second, inject: isolate},
	{name: "loss", about: "a director's links lose packets", shortest: second, longest: 4 * second, inject: impair(true, false), missing: needsNetem},
	{name: "delay", about: "a director's links delay packets", shortest: second, longest: 4 * second, inject: impair(false, true), missing: needsNetem},
	{name: "nic-down", about: "a director's network card goes down", shortest: 500 * time.Millisecond, longest: 3 * second, inject: cardDown},

	{name: "vip-removed", about: "the VIP is removed by hand on its holder", shortest: 500 * time.Millisecond, longest: 500 * time.Millisecond, inject: removeVIP},
	{name: "vip-added", about: "the VIP is added by hand on a standby", shortest: 1500 * time.Millisecond, longest: 2 * second, inject: addVIP},
	{name: "locks-deleted", about: "the locks of a group are deleted by hand", inject: deleteLocks},
	{name: "record-deleted", about: "the record of a group is deleted by hand", inject: deleteRecord, recordLost: true},
	{name: "voters-deleted", about: "the list of voters of a group is deleted by hand", inject: deleteVoters, alone: true},
	{name: "election-deleted", about: "the whole election/ of a group is deleted by hand", inject: deleteElection},
	{name: "group-deleted", about: "a group's election/, record and znode are deleted by hand; the documents are applied again", shortest: second, longest: second,
		inject: deleteGroup(true), recordLost: true},
	{name: "group-emptied", about: "a group's election/ and record are deleted by hand, its znode stays; the documents are applied again", shortest: second, longest: second,
		inject: deleteGroup(false), recordLost: true},
	{name: "bad-document", about: "a group's document is made invalid by hand, and put back", shortest: second, longest: 2 * second, inject: spoilDocument},

	{name: "clock-step", about: "the wall clock is stepped by an hour or so", shortest: second, longest: 2 * second, inject: stepClock, missing: needsOwnClock},
	{name: "clock-slew", about: "the clocks run 8 % fast or slow", shortest: 2 * second, longest: 5 * second, inject: slewClock, missing: needsOwnClock},
	{name: "rolling-restart", about: "every ZooKeeper server and every director is restarted, one after the other", inject: rollingRestart, zooKeeper: true, alone: true},
	{name: "zk-outage", about: "all ZooKeeper servers are killed, for 60 s", shortest: outage, longest: outage, inject: killEnsemble,
		zooKeeper: true, alone: true, asked: true},
	{name: "zk-outage-death", about: "all ZooKeeper servers are killed for 60 s and more, then a director is killed too", shortest: 5 * second, longest: 10 * second,
		inject: outageAndDeath, zooKeeper: true, alone: true, asked: true},
}

// Kinds returns the names of all kinds of faults.
func Kinds() (names []string) {
	for _, k := range kinds {
		names = append(names, k.name)
	}
	return names
}

// usualKinds are those that are drawn if none is asked for.
func usualKinds() (names []string) {
	for _, k := range kinds {
		if !k.asked {
			names = append(names, k.name)
		}
	}
	return names
}

// KindsText lists all kinds for people, a line each.
func KindsText() string {
	var b strings.Builder
	for _, k := range kinds {
		fmt.Fprintf(&b, "  %-18s %s", k.name, k.about)
		if k.asked {
			b.WriteString(" (only where --kinds names it)")
		}
		b.WriteString("\n")
	}
	return b.String()
}

func kindOf(name string) kind {
	return kinds[slices.IndexFunc(kinds, func(k kind) bool { return k.name == name })]
}
