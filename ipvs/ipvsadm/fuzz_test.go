package ipvsadm

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What Parse accepts it reads again, unchanged, from what Format prints; and
// what Format prints, Format prints again.
func FuzzParse(f *testing.F) {
	f.Add("-A -t 10.0.0.1:80 -s rr -p 5 -M 255.255.0.0\n-a -t 10.0.0.1:80 -r 10.0.0.2:80 -g -w 1 -x 5 -y 2\n")
	f.Add("ipvsadm --add-service -f 5 -6 -s sh -b sh-port,flag-3 -o\n-a -f 5 -6 -r [2001:db8::1]:0 -i --tun-type gue --tun-port 5 --tun-remcsum\n")
	f.Add("# x\n-A --sctp-service [2001:db8::1]:0 -p\n-a --sctp-service 2001:db8::1 -r 10.0.0.1 -i --tun-type gre --tun-csum\n-D --sctp-service 2001:db8::1\n")
	f.Add("-Au 10.0.0.1:53 --pe=sip -p3\n-E -u 10.0.0.1:53 -s wrr\n-e -u 10.0.0.1:53 -mr10.0.0.1\n-d -u 10.0.0.1:53 -r 10.0.0.1\n-C\n-Z\n--set 1 2 3\n")
	f.Add("-A -f -1 -s mh -b \n-a -f -1 -r 10.0.0.1 -w 2147483647")
	f.Fuzz(func(t *testing.T, text string) {
		table, err := Parse("rules", strings.NewReader(text))
		if err != nil {
			if len(err.Error()) > maxShown*4096 || !strings.HasPrefix(err.Error(), "rules:") {
				t.Fatalf("error %.500s", err)
			}
			return
		}
		printed := format(t, table)
		again := parse(t, printed)
		if d := cmp.Diff(table, again, sameTable...); d != "" {
			t.Fatalf("%q became %q (-first +second):\n%s", text, printed, d)
		}
		if twice := format(t, again); twice != printed {
			t.Fatalf("printed %q, then %q", printed, twice)
		}
	})
}
