#!/usr/bin/perl

# Goal: every method keeps its time limit, whatever the agent does. Method: the limits are looked at as they
# are shipped, and made short but for status; each method is called with an agent that is absent, silent,
# deaf, slow, garbled, or breaks off. 0.3 s more are for what is not the agent's.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Trinas::FakeAgent;
use Trinas::TestPVE qw($CLASS @MOUNTS scfg warnings_of within);

my $limit = do { no warnings 'once'; $PVE::Storage::Custom::TrinasPlugin::LIMIT }; ## no critic (ProhibitNoWarnings)
cmp_ok($limit->{status}, '<', 0.1, 'status: under 100 ms');
cmp_ok($limit->{check}, '<=', 1, 'check_connection: 1 s');
cmp_ok($limit->{activate}, '<=', 40, 'activate_volume: 40 s');
cmp_ok($limit->{provide}, '<', 60, 'the hooks: within the lock of storage.cfg');
cmp_ok($limit->{claim}, '<', 30, 'changes: within the lock of a storage');

$limit->{$_} = 0.3 for qw(check form release claim list provide);
$limit->{activate} = 1;

my $scfg = scfg();
my $image = '100/vm-100-disk-0.raw';
my $methods = {
    check_connection => [0.3, sub { $CLASS->check_connection('vms', $scfg) }],
    activate_storage => [0.9, sub { $CLASS->activate_storage('vms', $scfg, {}) }],
    'activate_storage, mounted' => [0.3, sub { local @MOUNTS = (['127.0.0.1:/vms', $scfg->{path}, 'nfs']); $CLASS->activate_storage('vms', $scfg, {}) }],
    status => [0.1, sub { local @MOUNTS = (['127.0.0.1:/vms', $scfg->{path}, 'nfs']); $CLASS->status('vms', $scfg, {}) }],
    activate_volume => [1, sub { $CLASS->activate_volume('vms', $scfg, $image) }],
    'activate_volume of an ISO' => [1, sub { $CLASS->activate_volume('vms', $scfg, 'iso/x.iso') }],
    deactivate_volume => [0.3, sub { $CLASS->deactivate_volume('vms', $scfg, $image) }],
    list_images => [0.3, sub { $CLASS->list_images('vms', $scfg) }],
    volume_size_info => [0.3, sub { $CLASS->volume_size_info($scfg, 'vms', $image) }],
    free_image => [0.3, sub { $CLASS->free_image('vms', $scfg, $image) }],
    volume_resize => [0.3, sub { $CLASS->volume_resize($scfg, 'vms', $image, 4096, 0) }],
    rename_volume => [0.3, sub { $CLASS->rename_volume($scfg, 'vms', $image, 101, 'vm-101-disk-0.raw') }],
    volume_snapshot => [0.3, sub { $CLASS->volume_snapshot($scfg, 'vms', $image, 's') }],
    volume_export => [0.3, sub { $CLASS->volume_export($scfg, 'vms', \*STDERR, $image, 'raw+size') }],
    get_identity => [0.3, sub { $CLASS->get_identity($scfg, 'vms') }],
    on_add_hook => [0.3, sub { $CLASS->on_add_hook('vms', $scfg) }],
    on_update_hook_full => [0.3, sub { $CLASS->on_update_hook_full('vms', $scfg, { content => { iso => 1 } }, [], {}) }],
    on_delete_hook => [0.3, sub { $CLASS->on_delete_hook('vms', $scfg) }],
    deactivate_storage => [0.3, sub { $CLASS->deactivate_storage('vms', $scfg, {}) }],
};
my $never_die = { map { $_ => 1 } qw(check_connection status deactivate_volume on_delete_hook deactivate_storage) };

for my $how (qw(absent silent deaf slow garbled broken)) {
    my $agent = Trinas::FakeAgent->new(how => $how)->use_it();
    for my $method (sort keys %$methods) {
        my ($seconds, $code) = $methods->{$method}->@*;
        $seconds += 0.3 if $method ne 'status';
        my ($died, $took);
        warnings_of(sub { $took = within($seconds, sub { $died = eval { $code->(); 1 } ? '' : $@ }) });
        cmp_ok($took, '<', $seconds, "$how: $method: within its limit");
        like($died, $never_die->{$method} ? qr/\A\z/ : qr/\A[^\n]+\n\z/, "$how: $method: " . ($never_die->{$method} ? 'never dies' : 'one line'));
    }
}

done_testing();
