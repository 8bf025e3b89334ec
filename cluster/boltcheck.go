package cluster

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"os"
)

// checkBolt reads a bbolt file from end to end and says what is wrong with its structure.
//
// bbolt trusts its files. On one that was cut short it touches memory beyond the end of the file, which the
// kernel answers with a signal; a page that points at itself recurses until the stack is full; and what its scan
// for free pages finds, it reports by a panic on a goroutine of its own. None of that can be caught by the caller,
// so the file is looked at before bbolt is. The scan at opening reads every page anyway, as free pages are not
// stored, so this costs no more than that does.
//
// The format is bbolt's version 2, in the byte order of the machine. Values carry no checksum: a log entry with a
// flipped bit in it is not found here.
func checkBolt(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // read only
	info, err := f.Stat()
	if err != nil {
		return err
	}
	b := &boltFile{r: f, size: info.Size()}
	if err := b.readMeta(); err != nil {
		return err
	}
	return b.walk()
}

const (
	boltHeader     = 16 // of a page: id 8, flags 2, count 2, overflow 4
	boltElement    = 16 // of a branch or a leaf, one entry
	boltBucket     = 16 // value of a bucket: root page 8, sequence 8
	boltMagic      = 0xED0CDAED
	boltVersion    = 2
	boltNoFreelist = math.MaxUint64

	boltBranch   = 0x01
	boltLeaf     = 0x02
	boltFreelist = 0x10
	boltSubtree  = 0x01 // flag of a leaf's entry that is a bucket

	// A tree with the smallest fan-out has as many levels as the file has bits of page numbers; buckets within
	// buckets, of which the log has one level.
	maxBoltDepth = 64
)

var boltOrder = binary.NativeEndian

type boltFile struct {
	r        io.ReaderAt
	size     int64
	pageSize int64
	pages    uint64 // pages in use are below this number
	root     uint64
	freelist uint64
	seen     []bool
}

// readMeta takes the newer of the two meta pages that is whole: a crash may have torn the other.
func (b *boltFile) readMeta() error {
	if b.size == 0 {
		return errors.New("it is empty")
	}
	found, newest := false, uint64(0)
	read := func(at int64) {
		meta := make([]byte, boltHeader+64)
		if _, err := b.r.ReadAt(meta, at); err != nil {
			return
		}
		meta = meta[boltHeader:]
		sum := fnv.New64a()
		sum.Write(meta[:56]) //nolint:errcheck // a hash never fails
		size, txid := int64(boltOrder.Uint32(meta[8:])), boltOrder.Uint64(meta[48:])
		if boltOrder.Uint32(meta) != boltMagic || boltOrder.Uint32(meta[4:]) != boltVersion ||
			boltOrder.Uint64(meta[56:]) != sum.Sum64() || size < 1024 || found && txid <= newest {
			return
		}
		found, newest, b.pageSize = true, txid, size
		b.root, b.freelist, b.pages = boltOrder.Uint64(meta[16:]), boltOrder.Uint64(meta[32:]), boltOrder.Uint64(meta[40:])
	}
	read(0)
	if found {
		read(b.pageSize)
	} else {
		for at := int64(1024); at <= 1024<<14 && !found; at *= 2 { // the page sizes that bbolt tries
			read(at)
		}
	}
	if !found {
		return errors.New("it has no readable header: it was overwritten, or is another kind of file")
	}
	if b.pages < 3 || b.pages > uint64(b.size/b.pageSize) {
		return fmt.Errorf("it was cut short: it has %d bytes and should have %d pages of %d", b.size, b.pages, b.pageSize)
	}
	b.seen = make([]bool, b.pages)
	return nil
}

func (b *boltFile) walk() error {
	if b.freelist != boltNoFreelist {
		p, err := b.page(b.freelist)
		if err != nil {
			return err
		}
		count, first := uint64(p.count), uint64(0)
		if count == 0xFFFF {
			count, first = boltOrder.Uint64(p.body[boltHeader:]), 1
		}
		if p.flags != boltFreelist || count+first > uint64(len(p.body)-boltHeader)/8 || count+first < count {
			return fmt.Errorf("page %d is no list of free pages", b.freelist)
		}
	}
	_, err := b.tree(b.root, nil, nil, 0)
	return err
}

type boltPage struct {
	id    uint64
	flags uint16
	count int
	body  []byte // with the header, and the pages that it overflows into
}

// page reads a page that nothing else may refer to.
func (b *boltFile) page(id uint64) (*boltPage, error) {
	if id < 2 || id >= b.pages {
		return nil, fmt.Errorf("it refers to page %d of %d", id, b.pages)
	}
	header := make([]byte, boltHeader)
	if _, err := b.r.ReadAt(header, int64(id)*b.pageSize); err != nil {
		return nil, fmt.Errorf("reading page %d: %w", id, err)
	}
	if own := boltOrder.Uint64(header); own != id {
		return nil, fmt.Errorf("page %d says that it is page %d", id, own)
	}
	overflow := uint64(boltOrder.Uint32(header[12:]))
	if overflow >= b.pages-id {
		return nil, fmt.Errorf("page %d goes on beyond the end", id)
	}
	for i := id; i <= id+overflow; i++ {
		if b.seen[i] {
			return nil, fmt.Errorf("page %d is in two places", i)
		}
		b.seen[i] = true
	}
	p := &boltPage{
		id: id, flags: boltOrder.Uint16(header[8:]), count: int(boltOrder.Uint16(header[10:])),
		body: make([]byte, int64(overflow+1)*b.pageSize),
	}
	if _, err := b.r.ReadAt(p.body, int64(id)*b.pageSize); err != nil {
		return nil, fmt.Errorf("reading page %d: %w", id, err)
	}
	return p, nil
}

// tree checks a page and all below it. Its keys must be within [low, high), where nil is no bound, and it returns
// the largest.
func (b *boltFile) tree(id uint64, low, high []byte, depth int) (largest []byte, err error) {
	if depth > maxBoltDepth {
		return nil, fmt.Errorf("page %d is too deep in its tree", id)
	}
	p, err := b.page(id)
	if err != nil {
		return nil, err
	}
	switch p.flags {
	case boltBranch:
		return b.branch(p, low, high, depth)
	case boltLeaf:
		return b.leaf(p, low, high, depth)
	}
	return nil, fmt.Errorf("page %d is of no known kind", id)
}

func (b *boltFile) branch(p *boltPage, low, high []byte, depth int) (largest []byte, err error) {
	if p.count == 0 {
		return nil, fmt.Errorf("page %d leads nowhere", p.id)
	}
	keys, children := make([][]byte, p.count), make([]uint64, p.count)
	for i := range keys {
		e, err := p.element(i)
		if err != nil {
			return nil, err
		}
		if keys[i], err = p.slice(i, uint64(boltOrder.Uint32(e)), uint64(boltOrder.Uint32(e[4:]))); err != nil {
			return nil, err
		}
		children[i] = boltOrder.Uint64(e[8:])
	}
	largest = low
	for i, key := range keys {
		if err := p.ordered(i, largest, key, high); err != nil {
			return nil, err
		}
		next := high
		if i+1 < len(keys) {
			next = keys[i+1]
		}
		if largest, err = b.tree(children[i], key, next, depth+1); err != nil {
			return nil, err
		}
	}
	return largest, nil
}

func (b *boltFile) leaf(p *boltPage, low, high []byte, depth int) (largest []byte, err error) {
	previous := low
	for i := range p.count {
		e, err := p.element(i)
		if err != nil {
			return nil, err
		}
		position, keySize, valueSize := uint64(boltOrder.Uint32(e[4:])), uint64(boltOrder.Uint32(e[8:])), uint64(boltOrder.Uint32(e[12:]))
		key, err := p.slice(i, position, keySize)
		if err != nil {
			return nil, err
		}
		value, err := p.slice(i, position+keySize, valueSize)
		if err != nil {
			return nil, err
		}
		if err := p.ordered(i, previous, key, high); err != nil {
			return nil, err
		}
		previous, largest = key, key
		if boltOrder.Uint32(e)&boltSubtree != 0 {
			if err := b.bucket(p, value, depth); err != nil {
				return nil, err
			}
		}
	}
	return largest, nil
}

func (b *boltFile) bucket(p *boltPage, value []byte, depth int) error {
	if len(value) < boltBucket {
		return fmt.Errorf("page %d has half a bucket", p.id)
	}
	if root := boltOrder.Uint64(value); root != 0 {
		_, err := b.tree(root, nil, nil, depth+1)
		return err
	}
	// A small bucket lies in its own entry, as a page without a number.
	inside := &boltPage{id: p.id, body: value[boltBucket:]}
	if len(inside.body) < boltHeader || depth >= maxBoltDepth {
		return fmt.Errorf("page %d has half a bucket", p.id)
	}
	inside.flags, inside.count = boltOrder.Uint16(inside.body[8:]), int(boltOrder.Uint16(inside.body[10:]))
	if inside.flags != boltLeaf {
		return fmt.Errorf("page %d has a bucket of no known kind", p.id)
	}
	_, err := b.leaf(inside, nil, nil, depth+1)
	return err
}

func (p *boltPage) element(i int) ([]byte, error) {
	at := boltHeader + i*boltElement
	if at+boltElement > len(p.body) {
		return nil, fmt.Errorf("page %d has more entries than fit", p.id)
	}
	return p.body[at : at+boltElement], nil
}

// slice is what lies at an offset from an element.
func (p *boltPage) slice(i int, offset, size uint64) ([]byte, error) {
	at := uint64(boltHeader+i*boltElement) + offset
	if at+size > uint64(len(p.body)) { // each is below 2^34
		return nil, fmt.Errorf("page %d has an entry that goes on beyond its end", p.id)
	}
	return p.body[at : at+size], nil
}

// ordered checks one key against its neighbours; only the first of a page may equal what came before.
func (p *boltPage) ordered(i int, previous, key, high []byte) error {
	order := -1
	if previous != nil {
		order = bytes.Compare(previous, key)
	}
	if order > 0 || order == 0 && i > 0 || high != nil && bytes.Compare(key, high) >= 0 {
		return fmt.Errorf("page %d has its keys out of order", p.id)
	}
	return nil
}
