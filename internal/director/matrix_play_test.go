package director_test

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/internal/director"
	"github.com/zklvs/zklvs/internal/lab"
	"github.com/zklvs/zklvs/internal/spec"
	"github.com/zklvs/zklvs/ipvs"
)

// A row is one combination: documents become rules in a director's kernel, a
// client calls, and the right servers must answer.
//
// Its texts have words for addresses; each has an IPv6 twin that ends in v6:
//
//	$VIP $SECOND        VIPs of this row alone
//	$M1 ... $M4         VIPs of a row that is marked
//	$MARK               the row's firewall mark
//	$dr1 $nat2 ...      the real servers, see newMatrix
//	$director           the director itself
//	$C1 ... $C32 $FAR   the client's addresses, FAR in another network than the rest
type row struct {
	name string
	// service is its document without the group; other is that of a second one.
	service, other string
	// marked gives the row a network of VIPs that the director does not have: a
	// route brings their packets to the director, a filter there gives them the
	// row's mark, and a local route brings them to IPVS.
	marked bool
	visits []visit
	// definition is what the kernel says of a scheduler, where the row tests that.
	definition string
}

// A visit is some calls to one address, one after the other, as many as there are
// in want.
type visit struct {
	to   string // "tcp $VIP:80"
	from string // the client's address; default $C1
	say  string // instead of "who?"
	flow bool   // all of them on one flow: one connection, or one port of UDP
	hold bool   // flows stay open until the row ends, or a visit with drop
	drop bool   // first close those that are held
	// want is by whom the calls are served, in any order: "dr1=2 dr2=2". Or:
	//	one=4      all by one and the same server, whichever
	//	same=4     all by the server of the last call before
	//	first=4    all by the server of the row's first call
	//	other=4    all by one that has not served in this row yet
	//	rest=4     by several, all of which have not served in this row yet
	//	met=4      by all that have served in this row, and no others
	//	refused=4  by none, and the client is told so
	want string
}

// play makes a row's rules, lets the client call, and takes the rules back.
func (m *matrix) play(t *testing.T, r row) {
	m.rows++
	p := &playing{T: t, matrix: m, met: map[string]bool{}}
	p.prepare(r)
	defer func() {
		p.drop()
		p.must(p.apply(nil, p.rules))
	}()
	p.must(p.apply(p.rules, nil))
	for i, v := range r.visits {
		if err := p.visit(v); err != nil {
			t.Errorf("visit %d, %s: %v", i+1, p.words.Replace(v.to), err)
		}
	}
	if t.Failed() {
		kernel, err := p.director.Run(t.Context(), "ipvsadm", "-Ln")
		if r.definition != "" {
			t.Logf("%s: %s", r.name, r.definition)
		}
		t.Logf("the rules are\n%s\nand the kernel has (%v)\n%s", ipvs.Diff(p.rules, nil, nil), err, kernel)
	}
}

// playing is a row under way.
type playing struct {
	*testing.T
	*matrix
	words *strings.Replacer
	rules []ipvs.Service
	held  []*lab.Call
	last  string          // who served the last call
	first string          // who served the first one
	met   map[string]bool // who has served
}

func (p *playing) must(err error) {
	p.T.Helper()
	if err != nil {
		p.T.Fatal(err)
	}
}

// prepare gives the row its VIPs and reads its documents.
func (p *playing) prepare(r row) {
	p.T.Helper()
	words, text := slices.Clone(p.names), r.service+r.other
	words = append(words, "$MARK", strconv.Itoa(p.rows))
	var vips []string
	for i, word := range []string{"$VIP", "$SECOND"} {
		for _, a := range []netip.Prefix{address(lan, vipNet+i, p.rows), address(lan6, vipNet+i, p.rows)} {
			words = append(words, word+map[bool]string{true: "v6"}[a.Addr().Is6()], a.Addr().String())
			vips = append(vips, strconv.Quote(a.Addr().String()))
			p.must(p.director.BindVIP("eth0", a.Addr()))
			p.hide(a.Addr(), text)
		}
	}
	if r.marked {
		words = append(words, p.mark(text)...)
	}
	p.words = replacer(words)
	p.rules = p.read(r, vips)
}

// replacer is for pairs of words; a longer word goes before its beginning.
func replacer(pairs []string) *strings.Replacer {
	sorted := slices.Collect(slices.Chunk(pairs, 2))
	slices.SortStableFunc(sorted, func(a, b []string) int { return cmp.Compare(len(b[0]), len(a[0])) })
	return strings.NewReplacer(slices.Concat(sorted...)...)
}

// hide gives a VIP to the real servers that a text names.
func (p *playing) hide(vip netip.Addr, text string) {
	p.T.Helper()
	for _, h := range p.lab.Hosts() {
		if strings.Contains(text, "$"+h.Name()) && h != p.director && !strings.HasPrefix(h.Name(), "nat") {
			p.must(h.HideVIP(vip))
		}
	}
}

// mark does what row.marked says, and returns the words for the VIPs.
func (p *playing) mark(text string) (words []string) {
	p.T.Helper()
	var onDirector, onClient string
	for _, network := range []struct{ protocol, marked, host string }{{"ip", marked, lan}, {"ipv6", marked6, lan6}} {
		all := address(network.marked, p.rows, 0)
		onDirector += fmt.Sprintf("ip route add local %s dev lo\ntc filter add dev eth0 ingress protocol %s flower dst_ip %s action skbedit mark %d\n",
			all, network.protocol, all, p.rows)
		onClient += fmt.Sprintf("ip route add %s via %s\n", all, address(network.host, hostsNet, 11).Addr())
		for i := 1; i <= 4; i++ {
			a := address(network.marked, p.rows, i).Addr()
			words = append(words, fmt.Sprintf("$M%d", i)+map[bool]string{true: "v6"}[a.Is6()], a.String())
			p.hide(a, text)
		}
	}
	_, err := p.director.Run(p.Context(), "sh", "-ec", onDirector)
	p.must(err)
	_, err = p.client.Run(p.Context(), "sh", "-ec", onClient)
	p.must(err)
	return words
}

// read makes rules of the row's documents.
func (p *playing) read(r row, vips []string) []ipvs.Service {
	p.T.Helper()
	// without connection synchronization, a service may have real servers of both families
	text := "cluster: {ipvs: {sync: {enabled: false}}}\ngroups: {lab: {vips: [" + strings.Join(vips, ", ") + "]}}\nservices:\n"
	for i, s := range []string{r.service, r.other} {
		if s != "" {
			text += fmt.Sprintf("  service%d: {group: lab, %s}\n", i+1, p.words.Replace(s))
		}
	}
	documents, err := spec.ParseFile("row", []byte(text))
	p.must(err)
	s := documents.Spec()
	p.must(s.Check())
	return director.Rules(s, map[string]bool{"lab": true}, func(spec.Service, spec.RealServer) bool { return true })
}

// apply changes the director's kernel from some rules to others.
func (p *playing) apply(desired, actual []ipvs.Service) error {
	plan := ipvs.Diff(desired, actual, func(ipvs.Key) bool { return true })
	_, err := p.table.Apply(p.T.Context(), plan)
	return err
}

func (p *playing) drop() {
	for _, c := range p.held {
		c.Close()
	}
	p.held = nil
}

// visit makes the calls of a visit; an error tells what is not as wanted.
func (p *playing) visit(v visit) error {
	if v.drop {
		p.drop()
	}
	want, total, err := parseWant(v.want)
	p.must(err)
	seen := memory{p.first, p.last, maps.Clone(p.met)}
	served := map[string]int{}
	for calls := p.callsOf(v); total > 0; total-- {
		who, err := calls.next()
		if err != nil {
			return fmt.Errorf("%w; served until then: %v", err, served)
		}
		served[who]++
		p.first, p.last, p.met[who] = cmp.Or(p.first, who), who, true
	}
	return seen.compare(want, served)
}

func parseWant(text string) (want map[string]int, total int, err error) {
	want = map[string]int{}
	for _, word := range strings.Fields(text) {
		who, number, _ := strings.Cut(word, "=")
		if want[who], err = strconv.Atoi(number); err != nil {
			return nil, 0, fmt.Errorf("want %q: expected such as dr1=2: %w", text, err)
		}
		total += want[who]
	}
	return want, total, nil
}

// memory is who served the first and the last call before a visit, and who any.
type memory struct {
	first, last string
	met         map[string]bool
}

// compare knows the words of visit's want.
func (m memory) compare(want, served map[string]int) error {
	who := slices.Sorted(maps.Keys(served))
	var good bool
	switch {
	case want["one"] > 0:
		good = len(who) == 1 && who[0] != refused
	case want["same"] > 0:
		good = slices.Equal(who, []string{m.last})
	case want["first"] > 0:
		good = slices.Equal(who, []string{m.first})
	case want["other"] > 0:
		good = len(who) == 1 && who[0] != refused && !m.met[who[0]]
	case want["rest"] > 0:
		good = len(who) > 1 && !slices.ContainsFunc(who, func(name string) bool { return name == refused || m.met[name] })
	case want["met"] > 0:
		good = slices.Equal(who, slices.Sorted(maps.Keys(m.met)))
	default:
		good = maps.Equal(want, served)
	}
	if !good {
		return fmt.Errorf("served by %v, want %v; before: the first %q, the last %q, all %v", served, want, m.first, m.last, m.met)
	}
	return nil
}

// refused stands for the server of a call that was refused.
const refused = "refused"

// calls are those of one visit.
type calls struct {
	*playing
	visit
	network  string
	target   netip.AddrPort
	source   netip.Addr
	underway *lab.Call
}

func (p *playing) callsOf(v visit) *calls {
	network, to, _ := strings.Cut(p.words.Replace(v.to), " ")
	target, err := netip.ParseAddrPort(to)
	p.must(err)
	from := cmp.Or(v.from, "$C1")
	if target.Addr().Is6() {
		from += "v6"
	}
	source, err := netip.ParseAddr(p.words.Replace(from))
	p.must(err)
	return &calls{playing: p, visit: v, network: network, target: target, source: source}
}

// next makes the next call and returns who served it.
func (c *calls) next() (string, error) {
	if c.underway == nil || !c.flow {
		call, err := c.client.Call(lab.CallOptions{Network: c.network, To: c.target, From: netip.AddrPortFrom(c.source, 0)})
		if errors.Is(err, unix.ECONNREFUSED) {
			return refused, nil
		}
		if err != nil {
			return "", err
		}
		c.underway = call
		c.held = append(c.held, call)
	}
	reply, err := c.underway.Say(cmp.Or(c.say, "who?\n"))
	if !c.hold && !c.flow {
		c.underway.Close()
	}
	if errors.Is(err, unix.ECONNREFUSED) {
		return refused, nil
	}
	if err == nil {
		err = c.checkPlace(reply)
	}
	return reply.Server, err
}

// checkPlace holds where a server says it was called against the rules: NAT gives
// it its own address and port, everything else leaves the VIP.
func (c *calls) checkPlace(r lab.Reply) error {
	if c.network == "sctp" { // see lab.Reply
		return nil
	}
	place := c.target
	for _, s := range c.rules {
		if s.Mark == 0 && (s.Address != c.target.Addr() || s.Port != c.target.Port() && s.Port != 0) {
			continue
		}
		for _, d := range s.Destinations {
			if d.Forward == ipvs.NAT && c.hosts[d.Address] == r.Server {
				place = netip.AddrPortFrom(d.Address, cmp.Or(d.Port, c.target.Port()))
			}
		}
	}
	if r.At != place {
		return fmt.Errorf("%s was called at %s; expected %s", r.Server, r.At, place)
	}
	return nil
}
