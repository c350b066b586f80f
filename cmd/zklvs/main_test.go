package main

import (
	"os"
	"testing"
)

// actAsProgram makes the test binary be zklvs, so that tests run the real
// program without building it.
const actAsProgram = "ZKLVS_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(actAsProgram) == "1" {
		main()
		return
	}
	os.Setenv(actAsProgram, "1") // for the processes that tests start
	os.Exit(m.Run())
}
