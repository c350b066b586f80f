// Package imports holds the test that keeps the walls between packages.
package imports

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/zklvs/zklvs/"

// Third-party packages by what they let a package know.
const (
	zkClient = "github.com/go-zookeeper/zk"
	netlink  = "github.com/vishvananda/netlink"
	mobyIPVS = "github.com/moby/ipvs"
)

// mustNotKnow says what each package must not import, directly or through
// another, and why. See docs/ARCHITECTURE.md.
var mustNotKnow = map[string]map[string]string{
	"election": {
		zkClient: "the machine decides, internal/zk talks", "net": "no I/O",
		module + "fence": "it knows no VIPs", module + "ipvs": "it knows no rules", module + "internal/spec": "it knows no documents",
		module + "internal/boottime": "time is an argument",
	},
	"fence": {
		zkClient: "it knows no ZooKeeper", module + "election": "it knows no leadership",
		module + "ipvs": "it knows no services", module + "internal/spec": "it knows no documents",
	},
	"fence/gate": {
		zkClient: "it knows addresses and deadlines only", module + "election": "it knows addresses and deadlines only", module + "ipvs": "it knows addresses and deadlines only",
	},
	"fence/gate/nft": {
		zkClient: "it knows addresses and deadlines only", module + "election": "it knows addresses and deadlines only", module + "ipvs": "it knows addresses and deadlines only",
	},
	"fence/deadman":  {module + "fence": "it knows no VIPs", netlink: "it is a timer"},
	"fence/watchdog": {module + "fence": "it knows no VIPs", netlink: "it is a device"},
	"internal/guard": {
		module + "internal/spec": "it reads no user's file", module + "health": "it knows no verdicts", module + "internal/director": "it serves a director, it is none",
	},
	"ipvs": {
		module + "health": "it knows no verdicts", module + "election": "it knows no roles", module + "fence": "it knows no VIPs", zkClient: "it knows no ZooKeeper",
	},
	"ipvs/ipvsadm": {
		module + "internal/spec": "it knows tables, not documents", zkClient: "it is text",
	},
	"internal/importer": {
		zkClient: "it makes text of text", module + "internal/zk": "it makes text of text", module + "internal/director": "it makes text of text",
	},
	"ipvs/genl": {
		module + "ipvs": "it knows messages and attributes, not what they mean",
	},
	"health": {
		module + "ipvs": "verdicts have no consequences here", module + "election": "verdicts know no roles", module + "internal/spec": "the director converts",
	},
	"internal/synrecv": {
		zkClient: "it sees counters and connections only", module + "health": "it sees counters and connections only",
		module + "election": "it knows no roles", module + "internal/spec": "it knows no documents",
	},
	"internal/spec": {
		zkClient: "documents open no connection", netlink: "documents touch no kernel", mobyIPVS: "documents touch no kernel",
		module + "internal/boottime": "documents read no clock",
	},
	"internal/zk": {
		module + "fence": "it does not know what leadership is for", module + "ipvs": "it does not know what leadership is for",
		module + "internal/director": "it is driven, it does not drive",
	},
	"internal/director": {
		module + "internal/guard": "it sees the guard through an interface",
		zkClient:                  "znodes are internal/zk's",
		module + "internal/zk":    "it sees the election through an interface",
	},
	"internal/drain": {
		zkClient: "it reads what it is given", module + "ipvs": "it decides about addresses", module + "internal/boottime": "time is an argument",
	},
	"internal/promise": {
		zkClient: "it is of use when ZooKeeper is away", module + "internal/zk": "it is of use when ZooKeeper is away",
		module + "internal/spec": "it is told where to listen", module + "internal/director": "it carries, it does not decide", netlink: "it is a socket",
	},
	"internal/realserver": {module + "election": "a real server takes no part in the election", zkClient: "not in this version"},
	"internal/ipvshost": {
		module + "health": "it knows no verdicts", module + "election": "it knows no roles", module + "internal/spec": "the director converts",
		module + "fence": "it knows no VIPs", zkClient: "it knows no ZooKeeper",
	},
	"internal/sysctl":  {netlink: "it is files", module + "ipvs": "it knows names and values only", module + "fence": "it knows names and values only"},
	"internal/control": {module + "election": "it decides nothing", module + "internal/director": "it shows what it is given", zkClient: "it shows what it is given"},
}

func TestPackagesKnowOnlyWhatTheyMay(t *testing.T) {
	deps := dependencies(t)
	for pkg, forbidden := range mustNotKnow {
		known, ok := deps[module+pkg]
		if !ok {
			t.Errorf("package %s is gone: update this test", pkg)
			continue
		}
		for path, why := range forbidden {
			if slices.Contains(known, path) {
				t.Errorf("%s must not import %s, not even through another package: %s", pkg, path, why)
			}
		}
	}
}

// moby/ipvs is the second opinion of the tests, and one that internal/bench
// measures; it is in no program that we ship.
func TestOracleIsForTestsOnly(t *testing.T) {
	for pkg, known := range dependencies(t) {
		isBench := strings.HasPrefix(pkg, module+"internal/bench")
		if slices.Contains(known, mobyIPVS) && !isBench {
			t.Errorf("%s imports %s outside of its tests", pkg, mobyIPVS)
		}
	}
}

// Only what is made of the lab, the lab's command and tests may use the lab.
func TestProductionDoesNotUseTheLab(t *testing.T) {
	for pkg, known := range dependencies(t) {
		name := strings.TrimPrefix(pkg, module)
		ofTheLab := slices.ContainsFunc([]string{"internal/lab", "internal/demo", "internal/nemesis", "internal/bench"},
			func(p string) bool { return name == p || strings.HasPrefix(name, p+"/") })
		mayUse := ofTheLab || name == "cmd/zklvs"
		if !mayUse && slices.Contains(known, module+"internal/lab") {
			t.Errorf("%s imports internal/lab", name)
		}
	}
}

// The simulation is there for the proof only.
func TestProductionDoesNotUseTheSimulation(t *testing.T) {
	if slices.ContainsFunc(dependencies(t)[module+"cmd/zklvs"], func(p string) bool { return strings.HasPrefix(p, module+"internal/sim") }) {
		t.Error("cmd/zklvs imports internal/sim")
	}
}

// dependencies returns what every package of the module imports, through others too.
func dependencies(t *testing.T) map[string][]string {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Deps", module+"...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	deps := map[string][]string{}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath string
			Deps       []string
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return deps
		} else if err != nil {
			t.Fatal(err)
		}
		deps[p.ImportPath] = p.Deps
	}
}
