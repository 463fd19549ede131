package dns

import (
	"encoding/binary"
	"io"
)

const (
	minUDPAnswer = 512   // bytes: what every resolver takes (RFC 1035 section 4.2.1)
	maxUDPAnswer = 1232  // bytes: what passes without fragments (RFC 9715 section 3)
	maxMessage   = 65535 // bytes
)

func readMessage(r io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(r, b)
	return b, err
}

func writeMessage(w io.Writer, b []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
	return err
}

func writeDatagram(w io.Writer, b []byte) error {
	_, err := w.Write(b)
	return err
}

func readDatagram(r io.Reader) ([]byte, error) {
	b := make([]byte, maxMessage)
	n, err := r.Read(b)
	return b[:n], err
}
