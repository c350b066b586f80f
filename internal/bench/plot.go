package bench

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// The layout of a plot, in pixels.
const (
	plotWidth  = 920
	plotLeft   = 215 // the names of the cases stand here
	plotRight  = 125 // the medians stand here
	plotTop    = 84
	laneHeight = 20
	caseGap    = 14
	plotBottom = 34
)

// colors are told apart by people who do not see all of them.
var colors = map[string]string{Zklvs: "#0072b2", Notes: "#d55e00", Tuned: "#8a6d00", Synced: "#d55e00",
	Bare: "#56b4e9", Ipvsadm: "#d55e00", Moby: "#8a6d00", Keepalived: "#009e73"}

// marks are those of the axis.
var marks = []struct {
	at    float64 // seconds
	label string
}{{0.001, "1 ms"}, {0.01, "10 ms"}, {0.1, "100 ms"}, {1, "1 s"}, {10, "10 s"}, {100, "100 s"}}

// SVG draws the distribution of a measure: a point for each value, on a logarithmic
// axis, a bar at the median; a lane for each contender of each case. Zeros are drawn
// at the left edge. A triangle is a lower bound.
func (p Plot) SVG(r *Result) string {
	d := &drawing{result: r, plot: p}
	d.scale()
	d.lanes()
	height := d.y + plotBottom
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" font-family="sans-serif" font-size="13">`+"\n", plotWidth, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", plotWidth, height)
	fmt.Fprintf(&b, `<text x="12" y="24" font-size="15" font-weight="bold">%s</text>`+"\n", html.EscapeString(p.Title))
	d.legend(&b)
	d.axis(&b, height-plotBottom)
	b.WriteString(d.body.String() + "</svg>\n")
	return b.String()
}

type drawing struct {
	result   *Result
	plot     Plot
	from, to float64 // the axis, in seconds
	y        int
	body     strings.Builder
}

// scale makes the axis as many decades as the values need.
func (d *drawing) scale() {
	smallest, largest := math.Inf(1), 0.0
	for _, s := range d.result.Series {
		for _, v := range s.Values {
			if s.Measure == d.plot.Measure && v.V > 0 {
				smallest, largest = min(smallest, v.V), max(largest, v.V)
			}
		}
	}
	if largest == 0 {
		smallest, largest = 0.001, 0.001
	}
	d.from = max(0.001, math.Pow(10, math.Floor(math.Log10(smallest))))
	d.to = math.Pow(10, math.Ceil(math.Log10(largest)+1e-9))
	if d.to <= d.from {
		d.to = 10 * d.from
	}
}

func (d *drawing) x(v float64) float64 {
	v = min(max(v, d.from), d.to)
	return plotLeft + (plotWidth-plotLeft-plotRight)*math.Log(v/d.from)/math.Log(d.to/d.from)
}

func (d *drawing) lanes() {
	d.y = plotTop
	for i, c := range d.result.Cases() {
		if i > 0 {
			fmt.Fprintf(&d.body, `<line x1="12" x2="%d" y1="%d" y2="%[2]d" stroke="#ddd"/>`+"\n", plotWidth-12, d.y+caseGap/2)
			d.y += caseGap
		}
		top := d.y
		for _, who := range d.result.Contenders() {
			if s := d.result.Find(c, d.plot.Measure, who); s != nil {
				d.lane(s)
			}
		}
		d.label(c, top)
	}
}

// label writes the name of a case, at most two lines of it.
func (d *drawing) label(name string, top int) {
	lines := wrap(name, 27)
	y := (top+d.y)/2 + 5 - 8*(len(lines)-1)
	for i, line := range lines {
		fmt.Fprintf(&d.body, `<text x="12" y="%d">%s</text>`+"\n", y+16*i, html.EscapeString(line))
	}
}

func (d *drawing) lane(s *Series) {
	middle, color := float64(d.y)+laneHeight/2, colors[s.Contender]
	for _, v := range s.Values {
		x := d.x(v.V)
		if v.AtLeast {
			fmt.Fprintf(&d.body, `<path d="M%.1f %.1f l8 4 l-8 4 z" fill="%s" fill-opacity="0.55"/>`+"\n", x-2, middle-4, color)
			continue
		}
		fmt.Fprintf(&d.body, `<circle cx="%.1f" cy="%.1f" r="4" fill="%s" fill-opacity="0.45"/>`+"\n", x, middle, color)
	}
	median := Median(s.Values)
	fmt.Fprintf(&d.body, `<rect x="%.1f" y="%.1f" width="2.4" height="16" fill="%s"/>`+"\n", d.x(median.V)-1.2, middle-8, color)
	fmt.Fprintf(&d.body, `<text x="%d" y="%.1f" text-anchor="end" fill="%s">%s</text>`+"\n", plotWidth-16, middle+4.5, color, show(median, s.Unit, roundingOf(s.Contender)))
	d.y += laneHeight
}

func (d *drawing) legend(b *strings.Builder) {
	x := 12
	for _, who := range d.result.Contenders() {
		fmt.Fprintf(b, `<circle cx="%d" cy="44" r="5" fill="%s"/><text x="%d" y="48.5">%s</text>`+"\n", x+5, colors[who], x+16, html.EscapeString(who))
		x += 44 + 8*len(who)
	}
	fmt.Fprintf(b, `<text x="12" y="66" fill="#555" font-size="12">%s</text>`+"\n", html.EscapeString(d.plot.Note))
	fmt.Fprintf(b, `<text x="%d" y="66" text-anchor="end" fill="#555" font-size="12">median</text>`+"\n", plotWidth-16)
}

func (d *drawing) axis(b *strings.Builder, bottom int) {
	for _, m := range marks {
		if m.at < d.from*0.99 || m.at > d.to*1.01 {
			continue
		}
		for k := 2.0; k < 10 && m.at*k < d.to; k++ {
			fmt.Fprintf(b, `<line x1="%.1f" x2="%.1[1]f" y1="%d" y2="%d" stroke="#eee"/>`+"\n", d.x(m.at*k), plotTop-6, bottom+4)
		}
		fmt.Fprintf(b, `<line x1="%.1f" x2="%.1[1]f" y1="%d" y2="%d" stroke="#bbb"/><text x="%.1[1]f" y="%[4]d" text-anchor="middle" fill="#555" font-size="12">%[5]s</text>`+"\n",
			d.x(m.at), plotTop-6, bottom+4, bottom+20, m.label)
	}
}

// wrap breaks a text at spaces into lines of about so many characters.
func wrap(text string, width int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimSpace(line + " " + word)
	}
	return append(lines, line)
}
