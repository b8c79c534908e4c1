// Package idlist writes lists of ids as bytes, for stores that keep many of them
// in one value: 16 bytes for a UUID, the text for anything else.
//
//	list = version { run }        version is the byte 1
//	run  = n<<1   { 16 bytes }    n UUIDs
//	     | n<<1|1 { size text }   n texts
//
// Numbers are unsigned varints. UUIDs are those in their canonical form, so that
// every id comes back as it was.
package idlist

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
)

// Max is how many ids a store should put into one value: 64 KiB of UUIDs.
const Max = 4096

const (
	version  = 1
	uuidSize = 16
	textSize = 36 // of a UUID
)

// Encode gives the bytes for ids, in their order.
func Encode(ids []string) []byte {
	b := make([]byte, 1, 1+binary.MaxVarintLen16+len(ids)*uuidSize)
	b[0] = version
	for len(ids) > 0 {
		n, uuids := run(ids)
		b = binary.AppendUvarint(b, kindOf(n, uuids))
		for _, id := range ids[:n] {
			if uuids {
				u, _ := UUID(id)
				b = append(b, u[:]...)
				continue
			}
			b = binary.AppendUvarint(b, uint64(len(id)))
			b = append(b, id...)
		}
		ids = ids[n:]
	}
	return b
}

// run is how many ids from the first on are UUIDs, or are none.
func run(ids []string) (n int, uuids bool) {
	_, uuids = UUID(ids[0])
	for n = 1; n < len(ids); n++ {
		if _, is := UUID(ids[n]); is != uuids {
			break
		}
	}
	return n, uuids
}

func kindOf(n int, uuids bool) uint64 {
	kind := uint64(n) << 1 //nolint:gosec // a length
	if !uuids {
		kind |= 1
	}
	return kind
}

// UUID gives the bytes of a UUID in its canonical form: lower case, with hyphens.
func UUID(id string) (u [uuidSize]byte, ok bool) {
	if len(id) != textSize || id[8] != '-' || id[13] != '-' || id[18] != '-' || id[23] != '-' {
		return u, false
	}
	from := 0
	for at := range u {
		if at == 4 || at == 6 || at == 8 || at == 10 {
			from++ // a hyphen
		}
		high, low := digit(id[from]), digit(id[from+1])
		if high > 15 || low > 15 {
			return u, false
		}
		u[at] = high<<4 | low
		from += 2
	}
	return u, true
}

func digit(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	}
	return 255
}

// errCut is about bytes that end before what they announce.
var errCut = errors.New("the list is cut short")

// Decode gives the ids that Encode was given.
func Decode(b []byte) (ids []string, err error) {
	if len(b) == 0 {
		return nil, errCut
	}
	if b[0] != version {
		return nil, fmt.Errorf("the list has version %d, this program reads version %d", b[0], version)
	}
	for b = b[1:]; len(b) > 0; {
		kind, size := binary.Uvarint(b)
		if size <= 0 {
			return nil, errCut
		}
		b = b[size:]
		if kind&1 == 0 {
			ids, b, err = decodeUUIDs(ids, b, kind>>1)
		} else {
			ids, b, err = decodeTexts(ids, b, kind>>1)
		}
		if err != nil {
			return nil, err
		}
	}
	return ids, nil
}

func decodeUUIDs(ids []string, b []byte, n uint64) (all []string, rest []byte, err error) {
	if n > uint64(len(b))/uuidSize {
		return nil, nil, errCut
	}
	for range n {
		var text [textSize]byte
		hex.Encode(text[:8], b[:4])
		hex.Encode(text[9:13], b[4:6])
		hex.Encode(text[14:18], b[6:8])
		hex.Encode(text[19:23], b[8:10])
		hex.Encode(text[24:], b[10:uuidSize])
		text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
		ids, b = append(ids, string(text[:])), b[uuidSize:]
	}
	return ids, b, nil
}

func decodeTexts(ids []string, b []byte, n uint64) (all []string, rest []byte, err error) {
	for range n {
		length, size := binary.Uvarint(b)
		if size <= 0 || length > uint64(len(b)-size) { //nolint:gosec // size is a part of b
			return nil, nil, errCut
		}
		b = b[size:]
		ids, b = append(ids, string(b[:length])), b[length:]
	}
	return ids, b, nil
}
