package storetest_test

import (
	"testing"

	"github.com/portico-id/portico/broker/store/storetest"
)

func TestEveryBackendConforms(t *testing.T) {
	for name, open := range storetest.Backends(t) {
		t.Run(name, func(t *testing.T) { storetest.Run(t, open) })
	}
}
