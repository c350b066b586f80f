package fence

// Fenced reports whether a lock is known to be fenced, without waiting for acts
// in flight.
func (h *Host) Fenced(hold Holding) bool {
	g := h.group(hold.Group)
	h.mu.Lock()
	defer h.mu.Unlock()
	return g.fenced.Has(hold.Lock)
}

// Checksum6 lets tests make neighbor solicitations.
var Checksum6 = checksum6
