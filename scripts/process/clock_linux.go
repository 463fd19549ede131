package process

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The clock of one process alone is set while it runs.
//
// A time namespace has no other time of day, and libfaketime finds no C library in a static program. But
// every program asks for the time in a page of code that the kernel gives it, the vDSO. There a jump is
// written to code that asks the kernel and adds some seconds:
//
//	find where the vDSO is -> stop the process -> nobody is at those bytes -> write -> go on

// clockCode is "clock_gettime" with seconds that are added to the time of day.
var clockCode = []byte{
	0xb8, 0xe4, 0x00, 0x00, 0x00, // mov eax, 228 (clock_gettime)
	0x0f, 0x05, // syscall
	0x85, 0xff, // test edi, edi (CLOCK_REALTIME is 0)
	0x75, 0x07, // jne to ret
	0x48, 0x81, 0x06, 0, 0, 0, 0, // add qword [rsi], seconds
	0xc3, // ret
}

const (
	clockSeconds = 14 // where in clockCode the seconds are
	jumpSize     = 5
)

// CanSetClocks reports whether the code above is for this machine, and its vDSO has room for it.
func CanSetClocks() bool {
	image, err := vdso()
	if err != nil || runtime.GOARCH != "amd64" {
		return false
	}
	_, _, err = clockPlaces(image)
	return err == nil
}

// SetClock makes the time of day of a process differ from that of the machine by some seconds.
func SetClock(p *Process, ahead time.Duration) error {
	image, err := vdso()
	if err != nil {
		return err
	}
	entry, room, err := clockPlaces(image)
	if err != nil {
		return err
	}
	base, _, err := vdsoOf(p.Proc("maps"))
	if err != nil {
		return err
	}
	code := bytes.Clone(clockCode)
	binary.LittleEndian.PutUint32(code[clockSeconds:], uint32(int32(ahead/time.Second)))
	jump := image[entry : entry+jumpSize] // what is there without us
	if ahead != 0 {
		jump = binary.LittleEndian.AppendUint32([]byte{0xe9}, uint32(room-entry-jumpSize))
	}
	mem, err := os.OpenFile(p.Proc("mem"), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer mem.Close()
	return stopped(p, base+entry, func() error {
		if _, err := mem.WriteAt(code, int64(base+room)); err != nil {
			return err
		}
		_, err := mem.WriteAt(jump, int64(base+entry))
		return err
	})
}

// vdso returns the code that the kernel gave this process. All processes have the same.
func vdso() ([]byte, error) {
	base, end, err := vdsoOf("/proc/self/maps")
	if err != nil {
		return nil, err
	}
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		return nil, err
	}
	defer mem.Close()
	image := make([]byte, end-base)
	_, err = mem.ReadAt(image, int64(base))
	return image, err
}

// vdsoOf returns where it is in a process.
func vdsoOf(maps string) (base, end uint64, err error) {
	text, err := os.ReadFile(maps)
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, "[vdso]") {
			_, err := fmt.Sscanf(line, "%x-%x", &base, &end)
			return base, end, err
		}
	}
	return 0, 0, errors.New("the process has no vDSO")
}

// clockPlaces returns where in a vDSO the time is asked for, and where it has room for clockCode.
func clockPlaces(image []byte) (entry, room uint64, err error) {
	f, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return 0, 0, err
	}
	symbols, err := f.DynamicSymbols()
	if err != nil {
		return 0, 0, err
	}
	room = uint64(len(bytes.TrimRight(image, "\x00"))+15) &^ 15
	if room+uint64(len(clockCode)) > uint64(len(image)) {
		return 0, 0, errors.New("there is no room in the vDSO")
	}
	for _, s := range symbols {
		if s.Name == "__vdso_clock_gettime" {
			return s.Value, room, nil
		}
	}
	return 0, 0, errors.New("there is no clock in the vDSO")
}

// stopped calls f while a process stands still, with none of its threads at the first bytes of a function.
func stopped(p *Process, function uint64, f func() error) error {
	defer p.Signal(syscall.SIGCONT)
	for range 100 {
		if err := p.Signal(syscall.SIGSTOP); err != nil {
			return err
		}
		busy := false
		err := Until(context.Background(), p.Name+" stands still", time.Minute, func() (err error) {
			busy, err = someoneAt(p, function)
			return err
		})
		switch {
		case err != nil:
			return err
		case !busy:
			return f()
		}
		p.Signal(syscall.SIGCONT)
	}
	return errors.New("the process does nothing but ask for the time")
}

// someoneAt reports whether a thread of a process that stands still is where a jump is to be written.
// It is an error if the process runs.
func someoneAt(p *Process, function uint64) (bool, error) {
	tasks, err := os.ReadDir(p.Proc("task"))
	if err != nil {
		return false, err
	}
	for _, task := range tasks {
		state, err := os.ReadFile(p.Proc("task/" + task.Name() + "/stat"))
		if err != nil {
			return false, err
		}
		if !bytes.Contains(state, []byte(") T ")) {
			return false, errors.New("it runs")
		}
		call, err := os.ReadFile(p.Proc("task/" + task.Name() + "/syscall"))
		if err != nil {
			return false, err
		}
		words := strings.Fields(string(call)) // the last one is where it goes on
		at, err := strconv.ParseUint(words[len(words)-1], 0, 64)
		if err != nil || at > function && at < function+jumpSize {
			return true, err
		}
	}
	return false, nil
}
