package replica

import (
	"testing"
	"testing/synctest"

	"trinas/replica/volume"
)

// Goal: no more bytes are under way than the bound says, but one proposal always may be.
func TestProposals_Bound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var table proposals
		table.init(100)
		newOne := func(bytes int) *proposal { return newProposal(make([]byte, bytes)) }
		large := newOne(300)
		table.reserve(large) // above the bound, and alone
		second := newOne(60)
		let := false
		go func() {
			table.reserve(second)
			let = true
		}()
		synctest.Wait()
		if let {
			t.Error("60 bytes were let in beside 300, the bound is 100")
		}
		table.unreserve(large)
		synctest.Wait()
		if !let {
			t.Error("60 bytes wait though none are under way")
		}
		second.index = 7
		table.byIndex[7] = second
		var res volume.Result
		table.finish(7, 0, &res)
		if table.bytes != 0 {
			t.Errorf("%d bytes are left when nothing is under way", table.bytes)
		}
	})
}
