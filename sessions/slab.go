package sessions

// slab holds values of one type in pieces that stay where they are: it grows by a piece at a time, so that no mint ever
// waits for a large table to be moved. Number 0 is never given away: it stands for none, and its value is the zero one.
type slab[T any] struct {
	pieces []*[pieceSize]T
	free   []uint32
	used   uint32 // numbers below have been given away before
}

const pieceSize = 256

func (s *slab[T]) at(number uint32) *T { return &s.pieces[number/pieceSize][number%pieceSize] }

// take returns the number of a zero value.
func (s *slab[T]) take() uint32 {
	if n := len(s.free); n > 0 {
		number := s.free[n-1]
		s.free = s.free[:n-1]
		return number
	}
	if s.used == 0 {
		s.grow()
		s.used = 1
	}
	if int(s.used/pieceSize) == len(s.pieces) {
		s.grow()
	}
	s.used++
	return s.used - 1
}

func (s *slab[T]) grow() { s.pieces = append(s.pieces, new([pieceSize]T)) }

// give takes a number back.
func (s *slab[T]) give(number uint32) {
	var zero T
	*s.at(number) = zero
	s.free = append(s.free, number)
}
