package bench

const aboutFailover = `TODO`

// Title heads the section's part of the page.
func (s failover) Title() string {
	if s.ipvs {
		return "Fail-over with IPVS services"
	}
	return "Fail-over on the machine's own kernel"
}

// About says what is measured.
func (s failover) About() string { return aboutFailover }

// Title heads the section's part of the page.
func (Switchover) Title() string { return "Requests lost in planned switchovers" }

// About says what is measured.
func (Switchover) About() string { return aboutSwitchover }

const aboutSwitchover = `TODO`
