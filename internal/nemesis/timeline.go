package nemesis

import (
	"fmt"
	"slices"
	"strings"
)

// The timeline is cut into rows of so many seconds. All sizes are in pixels.
const (
	rowSeconds = 120.0
	rowWidth   = 1440.0
	left       = 70.0
	laneHeight = 16.0
	bandHeight = 30.0
	rowHeight  = bandHeight + 2*(laneHeight+4) + 26
)

// colors of the hosts that answer, in the order in which they are first seen; a
// stranger's is the last.
var colors = []string{"#2f6fb2", "#e39b2b", "#4b9b5b", "#8a4fa3", "#777777"}

// drawing is an SVG under way.
type drawing struct {
	strings.Builder
	report *Report
	hosts  []string
}

// Timeline draws who answered each VIP, what was broken and the violations.
func (r *Report) Timeline() string {
	d := &drawing{report: r}
	for _, l := range r.Lanes {
		for _, s := range l.Spans {
			if !slices.Contains(d.hosts, s.Host) {
				d.hosts = append(d.hosts, s.Host)
			}
		}
	}
	slices.Sort(d.hosts)
	rows := int(r.Seconds/rowSeconds) + 1
	height := 40 + float64(rows)*rowHeight
	fmt.Fprintf(d, `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f" font-family="sans-serif" font-size="10">`+"\n", left+rowWidth+20, height)
	fmt.Fprintf(d, `<rect width="100%%" height="100%%" fill="white"/>`+"\n")
	d.legend()
	for row := range rows {
		d.row(row)
	}
	d.WriteString("</svg>\n")
	return d.String()
}

func (d *drawing) color(host string) string {
	return colors[min(slices.Index(d.hosts, host), len(colors)-1)]
}

func fill(color string) string { return `fill="` + color + `"` }

func (d *drawing) text(x, y float64, attributes, text string) {
	fmt.Fprintf(d, `<text x="%.1f" y="%.1f" %s>%s</text>`+"\n", x, y, attributes, escape(text))
}

func (d *drawing) box(x, y, width, height float64, color, title string) {
	fmt.Fprintf(d, `<rect x="%.2f" y="%.1f" width="%.2f" height="%.1f" %s><title>%s</title></rect>`+"\n", x, y, width, height, color, escape(title))
}

var escapes = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;")

func escape(s string) string { return escapes.Replace(s) }

func (d *drawing) legend() {
	x := left
	for _, h := range d.hosts {
		d.box(x, 10, 14, 12, fill(d.color(h)), h)
		d.text(x+18, 20, "", h+" answers")
		x += 120
	}
	for _, l := range []struct{ style, text string }{
		{faultStyle, "fault, until it was healed"}, {waitStyle, "until all was well"}, {badStyle, "violation"},
	} {
		d.box(x, 10, 14, 12, l.style, l.text)
		d.text(x+18, 20, "", l.text)
		x += 160
	}
}

const (
	faultStyle = `fill="#f2c4a0"`
	waitStyle  = `fill="#eeeeee"`
	badStyle   = `fill="#d00000"`
)

// row draws the seconds of one row.
func (d *drawing) row(row int) {
	from := float64(row) * rowSeconds
	y := 40 + float64(row)*rowHeight
	for s := 0.0; s <= rowSeconds; s += 30 {
		x := left + s/rowSeconds*rowWidth
		fmt.Fprintf(d, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#cccccc" stroke-width="0.5"/>`+"\n", x, y, x, y+rowHeight-16)
		d.text(x, y+rowHeight-6, `text-anchor="middle" fill="#666666"`, fmt.Sprintf("%.0f s", from+s))
	}
	for _, f := range d.report.Faults {
		d.span(from, y, rowHeight-18, f.Healed, f.Ended, waitStyle, "all well again after "+f.Name)
		d.span(from, y, rowHeight-18, f.Begun, f.Healed, faultStyle, fmt.Sprintf("%d: %s", f.Number, f.Name))
	}
	for i, f := range d.report.Faults { // over all boxes
		if from <= f.Begun && f.Begun < from+rowSeconds {
			d.text(left+(f.Begun-from)/rowSeconds*rowWidth+1, y+8+float64(i%3)*9, `font-size="8"`, fmt.Sprintf("%d %s", f.Number, f.Name))
		}
	}
	for i, l := range d.report.Lanes {
		top := y + bandHeight + float64(i)*(laneHeight+4)
		d.text(left-6, top+laneHeight-4, `text-anchor="end"`, l.Group)
		for _, s := range l.Spans {
			d.span(from, top, laneHeight, s.From, max(s.Until, s.From+0.005), fill(d.color(s.Host)),
				fmt.Sprintf("%s answered for %s from %.2f to %.2f s", s.Host, l.VIP, s.From, s.Until))
		}
		for _, v := range d.report.Violations {
			if v.Group == l.Group {
				d.span(from, top-2, laneHeight+4, v.From, max(v.Until, v.From+0.5), badStyle+` fill-opacity="0.7"`, v.Text)
			}
		}
	}
}

// span draws a box from one second to another as far as it is in the row.
func (d *drawing) span(row, y, height, from, until float64, style, title string) {
	begin, end := max(from, row), min(until, row+rowSeconds)
	if end > begin {
		d.box(left+(begin-row)/rowSeconds*rowWidth, y, (end-begin)/rowSeconds*rowWidth, height, style, title)
	}
}
