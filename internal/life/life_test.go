package life

import (
	"errors"
	"fmt"
	"os"
	"testing"
)

func TestOneLifeAtATime(t *testing.T) {
	cluster := fmt.Sprintf("test-%d", os.Getpid())
	first, err := Take(cluster)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Take(cluster); !errors.Is(err, ErrTaken) {
		t.Fatalf("second claim: %v, want ErrTaken", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := Take(cluster)
	if err != nil {
		t.Fatalf("after the first was closed: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestHostIDReadsThisKernel(t *testing.T) {
	id := HostID()
	if len(id.BootID) != 36 {
		t.Errorf("boot id %q: expected a UUID", id.BootID)
	}
	if again := HostID(); again != id {
		t.Errorf("read %+v, then %+v", id, again)
	}
}
