package sessions

// ends is a heap of four children a node of when sessions end, the soonest on top. Each is the second in the upper half
// and the slot in the lower, so that a comparison is one of integers. Only the top ever leaves.
type ends []uint64

func endOf(second, slot uint32) uint64 { return uint64(second)<<32 | uint64(slot) }

// next returns what ends soonest.
func (e ends) next() (second, slot uint32, ok bool) {
	if len(e) == 0 {
		return 0, 0, false
	}
	return uint32(e[0] >> 32), uint32(e[0]), true
}

func (e *ends) push(end uint64) {
	h := append(*e, end)
	*e = h
	at := len(h) - 1
	for at > 0 {
		up := (at - 1) / 4
		if h[up] <= end {
			break
		}
		h[at] = h[up]
		at = up
	}
	h[at] = end
}

// pop removes the top.
func (e *ends) pop() {
	h := *e
	end := h[len(h)-1]
	h = h[:len(h)-1]
	*e = h
	if len(h) == 0 {
		return
	}
	at := 0
	for {
		child := 4*at + 1
		if child >= len(h) {
			break
		}
		least := child
		for c := child + 1; c < min(child+4, len(h)); c++ {
			if h[c] < h[least] {
				least = c
			}
		}
		if h[least] >= end {
			break
		}
		h[at] = h[least]
		at = least
	}
	h[at] = end
}
