package ipvsadm

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/zklvs/zklvs/ipvs"
)

func format(t interface{ Fatal(...any) }, table []ipvs.Service) string {
	var b bytes.Buffer
	if err := Format(&b, table); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func parse(t interface{ Fatal(...any) }, text string) []ipvs.Service {
	got, err := Parse("rules", strings.NewReader(text))
	if err != nil {
		t.Fatal("parse:\n", text, "\n", err)
	}
	return got
}

func TestFormatThenParse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := drawTable(t)
		drawThresholds(t, table)
		text := format(t, table)
		if d := cmp.Diff(table, parse(t, text), sameTable...); d != "" {
			t.Fatalf("read back (-want +got):\n%s\n%s", d, text)
		}
	})
}

// What each line means is what ipvsadm 1.31 made of it and printed with -S -n.
func TestParse(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"nothing":             {"", ""},
		"blank and commented": {"\n \t\r\n# -A -t 10.0.0.9:80\n  #\n", ""},
		"defaults":            {"-A -t 10.0.0.1:80\n-a -t 10.0.0.1:80 -r 10.0.0.2", "-A -t 10.0.0.1:80 -s wlc\n-a -t 10.0.0.1:80 -r 10.0.0.2:80 -g -w 1\n"},
		"with its name":       {"ipvsadm -A -t 10.0.0.1:80\r\n", "-A -t 10.0.0.1:80 -s wlc\n"},
		"long options": {"--add-service --udp-service 10.0.0.1:53 --scheduler=rr --ops --persistent 5 --netmask 255.255.255.0 --pe sip\n" +
			"--add-server --udp-service 10.0.0.1:53 --real-server 10.0.0.2:54 --masquerading --weight 3 --u-threshold 9 --l-threshold=4",
			"-A -u 10.0.0.1:53 -s rr -p 5 -M 255.255.255.0 --pe sip -o\n-a -u 10.0.0.1:53 -r 10.0.0.2:54 -m -w 3 -x 9 -y 4\n"},
		"joined options":  {"-At 10.0.0.1:80 -srr -p=7\n-at 10.0.0.1:80 -mr 10.0.0.2:81 -w9", "-A -t 10.0.0.1:80 -s rr -p 7\n-a -t 10.0.0.1:80 -r 10.0.0.2:81 -m -w 9\n"},
		"other order":     {"-A -M 64 -p 5 -t [2001:db8::1]:80\n-a -m -r [2001:db8::2]:81 -t [2001:db8::1]:80", "-A -t [2001:db8::1]:80 -s wlc -p 5 -M 64\n-a -t [2001:db8::1]:80 -r [2001:db8::2]:81 -m -w 1\n"},
		"persistence":     {"-A -t 10.0.0.1:80 -p\n-A -t 10.0.0.2:80 -p -s rr", "-A -t 10.0.0.1:80 -s wlc -p 360\n-A -t 10.0.0.2:80 -s rr -p 360\n"},
		"whole addresses": {"-A -t 10.0.0.1:80 -p 1 -M 255.255.255.255\n-A -t [2001:db8::1]:80 -p 1 -M 128", "-A -t 10.0.0.1:80 -s wlc -p 1\n-A -t [2001:db8::1]:80 -s wlc -p 1\n"},
		"all ports":       {"-A -t 2001:db8::1 -p 3\n-a -t 2001:db8::1 -r 2001:db8::2\n-A -u 10.0.0.1 -p 3", "-A -u 10.0.0.1:0 -s wlc -p 3\n-A -t [2001:db8::1]:0 -s wlc -p 3\n-a -t [2001:db8::1]:0 -r [2001:db8::2]:0 -g -w 1\n"},
		"sctp":            {"-A --sctp-service 10.0.0.1:80 -s rr", "-A --sctp-service 10.0.0.1:80 -s rr\n"},
		"marks": {"-A -f 5 -6 -o\n-a -f 5 -6 -r 10.0.0.7 -i\n-A -f 5\n-a -f 5 -r 10.0.0.2:81\n-a -f 5 -r 10.0.0.3 -m\n-A -f -1294967296",
			"-A -f 5 -s wlc\n-a -f 5 -r 10.0.0.2:81 -g -w 1\n-a -f 5 -r 10.0.0.3:0 -m -w 1\n-A -f 5 -6 -s wlc -o\n-a -f 5 -6 -r 10.0.0.7:0 -i -w 1 --tun-type ipip\n-A -f 3000000000 -s wlc\n"},
		"tunnels": {"-A -t 10.0.0.1:80\n-a -t 10.0.0.1:80 -r 10.0.0.2 -i --tun-type gue --tun-port 6080\n-a -t 10.0.0.1:80 -r 10.0.0.3 -i --tun-type gue --tun-port 1 --tun-remcsum\n" +
			"-a -t 10.0.0.1:80 -r 10.0.0.4 -i --tun-type gre --tun-csum\n-a -t 10.0.0.1:80 -r [2001:db8::5]:80 -i --tun-type ipip",
			"-A -t 10.0.0.1:80 -s wlc\n-a -t 10.0.0.1:80 -r 10.0.0.2:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-nocsum\n" +
				"-a -t 10.0.0.1:80 -r 10.0.0.3:80 -i -w 1 --tun-type gue --tun-port 1 --tun-remcsum\n-a -t 10.0.0.1:80 -r 10.0.0.4:80 -i -w 1 --tun-type gre --tun-csum\n" +
				"-a -t 10.0.0.1:80 -r [2001:db8::5]:80 -i -w 1 --tun-type ipip\n"},
		"flags": {"-A -t 10.0.0.1:1 -s sh -b sh-port,sh-fallback\n-A -t 10.0.0.1:2 -s mh -b ,flag-1,mh-port,\n-A -t 10.0.0.1:3 -b flag-3,flag-1\n-A -t 10.0.0.1:4 -s sh -b \n-A -t 10.0.0.1:5 -s rr -b flag-2",
			"-A -t 10.0.0.1:1 -s sh -b sh-fallback,sh-port\n-A -t 10.0.0.1:2 -s mh -b mh-fallback,mh-port\n-A -t 10.0.0.1:3 -s wlc -b flag-1,flag-3\n-A -t 10.0.0.1:4 -s sh -b flag-3\n-A -t 10.0.0.1:5 -s rr -b flag-2\n"},
		"edited":  {"-A -t 10.0.0.1:80 -s rr -p 5\n-a -t 10.0.0.1:80 -r 10.0.0.2 -w 7\n-E -t 10.0.0.1:80 -s sh\n-e -t 10.0.0.1:80 -r 10.0.0.2 -i", "-A -t 10.0.0.1:80 -s sh\n-a -t 10.0.0.1:80 -r 10.0.0.2:80 -i -w 1 --tun-type ipip\n"},
		"deleted": {"-A -t 10.0.0.1:80\n-a -t 10.0.0.1:80 -r 10.0.0.2\n-a -t 10.0.0.1:80 -r 10.0.0.3\n-d -t 10.0.0.1:80 -r 10.0.0.2\n-A -f 1\n-D -f 1\n-A -f 1 -s rr", "-A -t 10.0.0.1:80 -s wlc\n-a -t 10.0.0.1:80 -r 10.0.0.3:80 -g -w 1\n-A -f 1 -s rr\n"},
		"cleared": {"-A -t 10.0.0.1:80\n-C\n-A -t 10.0.0.1:80 -s rr", "-A -t 10.0.0.1:80 -s rr\n"},
		"ordered": {"-A -f 2\n-A -f 1 -6\n-A -f 1\n-A -t [2001:db8::1]:1\n-A -u 10.0.0.1:2\n-A -t 10.0.0.2:1\n-A -t 10.0.0.1:2\n-A -t 10.0.0.1:1",
			"-A -t 10.0.0.1:1 -s wlc\n-A -t 10.0.0.1:2 -s wlc\n-A -t 10.0.0.2:1 -s wlc\n-A -u 10.0.0.1:2 -s wlc\n-A -t [2001:db8::1]:1 -s wlc\n-A -f 1 -s wlc\n-A -f 1 -6 -s wlc\n-A -f 2 -s wlc\n"},
	} {
		t.Run(name, func(t *testing.T) {
			table := parse(t, c.in)
			if d := cmp.Diff(c.want, format(t, table)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			if d := cmp.Diff(table, parse(t, c.want), sameTable...); d != "" {
				t.Errorf("what is printed means something else (-want +got):\n%s", d)
			}
		})
	}
}

func TestLines(t *testing.T) {
	table, err := Read("rules", strings.NewReader("\n-A -t 10.0.0.1:80\n-a -t 10.0.0.1:80 -r 10.0.0.2\n-a -t 10.0.0.1:80 -r 10.0.0.3\n-e -t 10.0.0.1:80 -r 10.0.0.2 -w 2\n"))
	if err != nil {
		t.Fatal(err)
	}
	key := ipvs.Key{Protocol: ipvs.TCP, Address: netip.MustParseAddr("10.0.0.1"), Port: 80}
	got := []int{table.Line(key), table.DestinationLine(key, netip.MustParseAddrPort("10.0.0.2:80")),
		table.DestinationLine(key, netip.MustParseAddrPort("10.0.0.3:80")), table.Line(ipvs.Key{Mark: 1})}
	if d := cmp.Diff([]int{2, 5, 4, 0}, got); d != "" {
		t.Errorf("lines (-want +got):\n%s", d)
	}
}

func TestFaults(t *testing.T) {
	const svc = "-A -t 10.0.0.1:80\n"
	for name, c := range map[string]struct{ in, want string }{
		"no command":         {"-t 10.0.0.1:80 -A", `rules:1: "-t" is no command of ipvsadm; expected -A or -a (--add-service, --add-server) first, as ipvsadm -S prints it`},
		"no option":          {"web", `rules:1: "web" is no command of ipvsadm; expected -A or -a (--add-service, --add-server) first, as ipvsadm -S prints it`},
		"unknown long":       {"-A -t 10.0.0.1:80 --schduler rr", `rules:1: "--schduler" is no option of ipvsadm (did you mean "scheduler"?)`},
		"unknown short":      {"-A -t 10.0.0.1:80 -q", `rules:1: "-q" in "-q" is no option of ipvsadm`},
		"one dash":           {"-add-service -t 10.0.0.1:80", `rules:1: "-add-service" is no option of ipvsadm (did you mean "--add-service"?)`},
		"value missing":      {"-A -t", `rules:1: -t stands last; expected a value after it`},
		"value not taken":    {"-A --ops=1 -u 10.0.0.1:53", `rules:1: --ops takes no value; expected no "=1"`},
		"surplus":            {svc[:len(svc)-1] + " # web", `rules:1: "#" belongs to no option; expected a comment on a line of its own`},
		"twice":              {"-A -t 10.0.0.1:80 -u 10.0.0.1:80", `rules:1: -u and -t exclude each other; expected one service`},
		"two commands":       {"-A -t 10.0.0.1:80 -E", `rules:1: -E and -A exclude each other; expected one command`},
		"out of place":       {"-A -t 10.0.0.1:80 -w 5", `rules:1: -w has no place beside -A; expected it in another line`},
		"listing":            {"-L -n", `rules:1: -L changes no table; expected -A, -a, -E, -e, -D, -d or -C`},
		"no service":         {"-A -s rr", `rules:1: has no service; expected -t, -u, --sctp-service or -f`},
		"no real server":     {svc + "-a -t 10.0.0.1:80 -g", `rules:2: has no real server; expected -r ADDRESS:PORT`},
		"host":               {"-A -t www.example.org:80", `rules:1: -t "www.example.org" is the name of a host; expected an address: save the table with ipvsadm -S -n, which prints numbers`},
		"host without dots":  {"-A -t localhost", `rules:1: -t "localhost" is the name of a host; expected an address: save the table with ipvsadm -S -n, which prints numbers`},
		"port's name":        {"-A -t 10.0.0.1:http", `rules:1: -t "http" is the name of a port; expected 0 to 65535: save the table with ipvsadm -S -n, which prints numbers`},
		"port's range":       {"-A -t 10.0.0.1:65536", `rules:1: -t port 65536 is out of range; expected 0 to 65535`},
		"port empty":         {"-A -t 10.0.0.1:", `rules:1: -t port "" is no number; expected 0 to 65535`},
		"short address":      {"-A -t 10.1:80", `rules:1: -t "10.1" is no address; expected one such as 192.0.2.1 or 2001:db8::1`},
		"digits":             {"-A -t 80", `rules:1: -t "80" is no address; expected one such as 192.0.2.1 or 2001:db8::1`},
		"zone":               {"-A -t [fe80::1%eth0]:80", `rules:1: -t "fe80::1%eth0" is no address; expected one such as 192.0.2.1 or 2001:db8::1`},
		"mapped":             {"-A -t [::ffff:10.0.0.1]:80", `rules:1: -t ::ffff:10.0.0.1 is an IPv4 address in IPv6 form; expected 10.0.0.1`},
		"brackets":           {"-A -t [10.0.0.1]:80", `rules:1: -t "[10.0.0.1]:80" has its brackets wrong; expected 10.0.0.1:PORT`},
		"no brackets":        {"-A -t 1:2:3:4:5:6:7:8:80", `rules:1: -t "1:2:3:4:5:6:7:8:80" has its brackets wrong; expected [1:2:3:4:5:6:7:8]:PORT`},
		"bracket open":       {"-A -t [2001:db8::1]", `rules:1: -t "[2001:db8::1]" is no address with a port; expected [ADDRESS]:PORT`},
		"mark":               {"-A -f 0", `rules:1: -f "0" is no firewall mark; expected 1 to 4294967295`},
		"hex mark":           {"-A -f 0x10", `rules:1: -f "0x10" is no firewall mark; expected 1 to 4294967295`},
		"ipv6 without mark":  {"-A -t 10.0.0.1:80 -6", `rules:1: -6 is for firewall marks only; expected it beside -f`},
		"scheduler":          {"-A -t 10.0.0.1:80 -s wcl", `rules:1: -s "wcl" is no scheduler; expected one of dh, fo, lblc, lblcr, lc, mh, nq, ovf, rr, sed, sh, twos, wlc, wrr (did you mean "wlc"?)`},
		"flag":               {"-A -t 10.0.0.1:80 -s sh -b sh-prot", `rules:1: -b "sh-prot" is no flag of scheduler sh; expected some of flag-1,flag-2,flag-3,sh-fallback,sh-port (did you mean "sh-port"?)`},
		"other's flag":       {"-A -t 10.0.0.1:80 -s sh -b mh-port", `rules:1: -b "mh-port" is no flag of scheduler sh; expected some of flag-1,flag-2,flag-3,sh-fallback,sh-port (did you mean "sh-port"?)`},
		"no flag":            {"-A -t 10.0.0.1:80 -b ,", `rules:1: -b names no flag; expected flags with commas between them, such as sh-port,sh-fallback`},
		"engine":             {"-A -u 10.0.0.1:80 --pe spi", `rules:1: --pe "spi" is no persistence engine; expected sip (did you mean "sip"?)`},
		"persistence":        {"-A -t 10.0.0.1:80 -p 0", `rules:1: -p 0 is out of range; expected 1 to 2678400`},
		"IPv6 mask":          {"-A -t [2001:db8::1]:80 -p -M 255.255.0.0", `rules:1: -M "255.255.0.0" is no number; expected 1 to 128`},
		"IPv4 mask":          {"-A -t 10.0.0.1:80 -p -M 24", `rules:1: -M "24" is no netmask; expected one such as 255.255.255.0`},
		"holes":              {"-A -t 10.0.0.1:80 -p -M 255.0.255.0", `rules:1: -M "255.0.255.0" is left out: only masks of 1 to 32 leading bits have a place, such as 255.255.255.0`},
		"mask alone":         {"-A -t 10.0.0.1:80 -M 255.255.0.0", `rules:1: -M "255.255.0.0" is left out: without -p it has no effect`},
		"port 0":             {"-A -t 10.0.0.1", `rules:1: port 0 stands for all ports and needs persistence; expected a port or -p beside TCP 10.0.0.1:0`},
		"one packet":         {"-A --sctp-service 10.0.0.1:80 -o", `rules:1: -o is for datagrams; expected -u or -f beside it`},
		"other port":         {svc + "-a -t 10.0.0.1:80 -r 10.0.0.2:81", `rules:2: real server 10.0.0.2:81 has port 81, and ipvsadm would silently take 80: only -m can change the port; expected port 80 or -m`},
		"other family":       {svc + "-a -t 10.0.0.1:80 -r [2001:db8::1]:80 -m", `rules:2: real server 2001:db8::1 and service TCP 10.0.0.1:80 are of different families, which only a tunnel carries; expected the service's family or -i`},
		"weight":             {svc + "-a -t 10.0.0.1:80 -r 10.0.0.2 -w -1", `rules:2: -w -1 is out of range; expected 0 to 2147483647`},
		"thresholds":         {svc + "-a -t 10.0.0.1:80 -r 10.0.0.2 -y 5", `rules:2: -y 5 is above -x 0; expected a lower threshold up to the upper one`},
		"no tunnel":          {svc + "-a -t 10.0.0.1:80 -r 10.0.0.2 -g --tun-csum", `rules:2: --tun-csum is for tunnels only; expected -i beside it`},
		"tunnel":             {svc + "-a -t 10.0.0.1:80 -r 10.0.0.2 -i --tun-type geu", `rules:2: --tun-type "geu" is no type of tunnel; expected ipip, gue or gre (did you mean "gue"?)`},
		"tunnel's port":      {svc + "-a -t 10.0.0.1:80 -r 10.0.0.2 -i --tun-port 5", `rules:2: --tun-port is for --tun-type gue only; expected it beside that`},
		"no tunnel port":     {svc + "-a -t 10.0.0.1:80 -r 10.0.0.2 -i --tun-type gue", `rules:2: --tun-type gue has no port; expected --tun-port PORT`},
		"checksum of ipip":   {svc + "-a -t 10.0.0.1:80 -r 10.0.0.2 -i --tun-csum", `rules:2: --tun-csum has no place in this type of tunnel; expected --tun-type gue, or gre without --tun-remcsum`},
		"remcsum of gre":     {svc + "-a -t 10.0.0.1:80 -r 10.0.0.2 -i --tun-type gre --tun-remcsum", `rules:2: --tun-remcsum has no place in this type of tunnel; expected --tun-type gue, or gre without --tun-remcsum`},
		"two checksums":      {svc + "-a -t 10.0.0.1:80 -r 10.0.0.2 -i --tun-type gre --tun-csum --tun-nocsum", `rules:2: --tun-nocsum and --tun-csum exclude each other; expected one tunnel checksum`},
		"service twice":      {svc + svc, `rules:2: service TCP 10.0.0.1:80 stands there already, in line 1; expected it once`},
		"service missing":    {"-a -t 10.0.0.1:80 -r 10.0.0.2", `rules:1: service TCP 10.0.0.1:80 does not stand above; expected its -A line first`},
		"server twice":       {svc + "-a -t 10.0.0.1:80 -r 10.0.0.2\n-a -t 10.0.0.1:80 -r 10.0.0.2:80", `rules:3: real server 10.0.0.2:80 of TCP 10.0.0.1:80 stands there already, in line 2; expected it once`},
		"server missing":     {svc + "-e -t 10.0.0.1:80 -r 10.0.0.2", `rules:2: real server 10.0.0.2:80 of TCP 10.0.0.1:80 does not stand above; expected its -a line first`},
		"edited too early":   {"-E -t 10.0.0.1:80", `rules:1: service TCP 10.0.0.1:80 does not stand above; expected its -A line first`},
		"timeouts":           {"--set 1 2 3", `rules:1: --set is left out: timeouts of connections are no part of a service (cluster.ipvs.timeouts in the documents)`},
		"sync daemon":        {"--start-daemon master --mcast-interface eth0", `rules:1: --start-daemon is left out: connection sync is no part of a service (cluster.ipvs.sync in the documents)`},
		"counters":           {"-Z", `rules:1: -Z is left out: counters are no part of a table`},
		"line too long":      {"\n-A -t 10.0.0.1:80" + strings.Repeat(" ", maxLine), `rules:2: the line is longer than 4096 bytes; expected a file that ipvsadm -S -n printed`},
		"control characters": {"-A -t \x1b[2J:80", `rules:1: -t "\x1b[2J" is no address; expected one such as 192.0.2.1 or 2001:db8::1`},
		// A line that is faulty still stands for its service, all faults come at once, notes among them.
		"many": {"-A -t 10.0.0.1:80 -s nosuch -p x\n-a -t 10.0.0.1:80 -r 10.0.0.2\n--set 1 2 3\n-a -t 10.0.0.1:80 -r 10.0.0.2:82 -w x",
			"rules:1: -s \"nosuch\" is no scheduler; expected one of dh, fo, lblc, lblcr, lc, mh, nq, ovf, rr, sed, sh, twos, wlc, wrr\nrules:1: -p \"x\" is no number; expected 1 to 2678400\n" +
				"rules:3: --set is left out: timeouts of connections are no part of a service (cluster.ipvs.timeouts in the documents)\n" +
				"rules:4: -w \"x\" is no number; expected 0 to 2147483647\nrules:4: real server 10.0.0.2:82 has port 82, and ipvsadm would silently take 80: only -m can change the port; expected port 80 or -m"},
	} {
		t.Run(name, func(t *testing.T) {
			table, err := Parse("rules", strings.NewReader(c.in))
			if err == nil {
				t.Fatalf("accepted as %v", table)
			}
			if d := cmp.Diff(strings.Split(c.want, "\n"), strings.Split(err.Error(), "\n")); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// Hostile input is refused in bounded time and space.
func TestBounds(t *testing.T) {
	_, err := Parse("rules", io.LimitReader(endless("x\n"), 1<<30))
	var faults Errors
	if !errors.As(err, &faults) || len(faults) != maxProblems || strings.Count(err.Error(), "\n") != maxShown {
		t.Errorf("%d faults, %d lines", len(faults), strings.Count(err.Error(), "\n"))
	}
	_, err = Parse("rules", io.LimitReader(endless(strings.Repeat("\n", 1000)), 1<<30))
	if err == nil || !strings.HasSuffix(err.Error(), "the input is larger than 64 MiB; expected less") {
		t.Errorf("a gigabyte of nothing: %v", err)
	}
	broken := errors.New("broken pipe")
	if _, err = Parse("rules", iotest.ErrReader(broken)); !errors.Is(err, broken) || err.Error() != "read rules: broken pipe" {
		t.Errorf("read error: %v", err)
	}
}

type endless string

func (e endless) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		n += copy(p[n:], e)
	}
	return n, nil
}

func TestFormatRefuses(t *testing.T) {
	key := ipvs.Key{Protocol: ipvs.TCP, Address: netip.MustParseAddr("10.0.0.1"), Port: 80}
	dest := ipvs.Destination{Address: netip.MustParseAddr("10.0.0.2"), Port: 80, Forward: ipvs.DR}
	with := func(change func(*ipvs.Service)) ipvs.Service {
		s := ipvs.Service{Key: key, Scheduler: "rr", Destinations: []ipvs.Destination{dest}}
		change(&s)
		return s
	}
	for want, s := range map[string]ipvs.Service{
		`address invalid IP`:                    with(func(s *ipvs.Service) { s.Address = netip.Addr{} }),
		`protocol-1: expected tcp, udp or sctp`: with(func(s *ipvs.Service) { s.Protocol = 1 }),
		`"" is no scheduler`:                    with(func(s *ipvs.Service) { s.Scheduler = "" }),
		`persistence 1.5s`:                      with(func(s *ipvs.Service) { s.Persistence = 1500 * time.Millisecond }),
		`cannot say: flags 0x40`:                with(func(s *ipvs.Service) { s.Extras = "flags 0x40" }),
		`10.0.0.2:80 has settings`:              with(func(s *ipvs.Service) { s.Destinations[0].Extras = "method 5" }),
		`10.0.0.2:80: no forwarding method`:     with(func(s *ipvs.Service) { s.Destinations[0].Forward = 0 }),
		`real server 10.0.0.2:80: weight -1: e`: with(func(s *ipvs.Service) { s.Destinations[0].Weight = -1 }),
	} {
		var b bytes.Buffer
		err := Format(&b, []ipvs.Service{with(func(*ipvs.Service) {}), s})
		if err == nil || !strings.Contains(err.Error(), want) || b.Len() > 0 {
			t.Errorf("%q: error %v, written %q", want, err, b.String())
		}
	}
}

// The count of real servers follows all that adds and removes some.
func TestBoundOnRealServers(t *testing.T) {
	b := &builder{name: "rules", services: map[ipvs.Key]*entry{}}
	for _, step := range []struct {
		line  string
		count int
	}{
		{"-A -f 1", 0}, {"-a -f 1 -r 10.0.0.1", 1}, {"-a -f 1 -r 10.0.0.2", 2}, {"-e -f 1 -r 10.0.0.2 -w 5", 2}, {"-d -f 1 -r 10.0.0.1", 1},
		{"-E -f 1 -s rr", 1}, {"-D -f 1", 0}, {"-A -f 2", 0}, {"-a -f 2 -r 10.0.0.1", 1}, {"-C", 0}, {"-A -f 3", 0},
	} {
		if b.play(step.line); b.destinations != step.count || len(b.faults) > 0 {
			t.Fatalf("after %s: %d real servers, faults %v, want %d", step.line, b.destinations, b.faults, step.count)
		}
	}
	b.destinations = maxDestinations
	b.play("-a -f 3 -r 10.0.0.1")
	if len(b.faults) != 1 || b.faults[0].Text != "there are more than 1000000 real servers; expected fewer" {
		t.Errorf("faults %v", b.faults)
	}
}
