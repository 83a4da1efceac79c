#!/usr/bin/perl -T

# Goal: nothing that came from the socket is still tainted when it reaches Proxmox or a command: pvedaemon
# and pct run with -T.

use strict;
use warnings;

use FindBin;
use lib map { m!\A(.*)\z! ? "$1/lib" : () } $FindBin::Bin;

use JSON;
use Scalar::Util qw(tainted);
use Test::More;
use Trinas::FakeAgent;
use Trinas::TestPVE qw($CLASS @COMMANDS @MOUNTS scfg warnings_of);

my $scfg = scfg();
my $agent = Trinas::FakeAgent->new(answer => sub {
    my ($method, $path) = @_;
    return (200, [{ path => 'images/101/vm-101-disk-0.qcow2', size_bytes => 5, used_bytes => 4, ctime_sec => 3, parent => '../100/base-100-disk-1.raw' }])
        if $path =~ m!/images!;
    return (200, { size_bytes => 5, used_bytes => 4, ctime_sec => 3, parent => 'x' }) if $path =~ m!/file!;
    return (200, {
        cluster => 'c1', id => 9, serving => JSON::true, space => { total_bytes => 10, free_bytes => 3 },
        mount => { source => '127.0.0.1:/vms', options => 'vers=3,hard' },
    });
})->use_it();

ok(tainted(Trinas::Agent::need($scfg, 'GET', 'service', limit => 5)->{cluster}), 'what comes from the socket is tainted');
$CLASS->activate_storage('vms', $scfg, {});
like("@COMMANDS", qr/systemd-mount/, 'mounted');
my %seen = (
    'a command' => \@COMMANDS,
    status => [$CLASS->status('vms', $scfg, {})],
    list_images => [map { values %$_ } @{ $CLASS->list_images('vms', $scfg) }],
    volume_size_info => [$CLASS->volume_size_info($scfg, 'vms', '100/vm-100-disk-0.qcow2', 5)],
    get_identity => [$CLASS->get_identity($scfg, 'vms')],
);
delete $scfg->{'trinas-cluster'};
$CLASS->on_add_hook('vms', $scfg);
$seen{on_add_hook} = [$scfg->{'trinas-cluster'}];
for my $what (sort keys %seen) {
    ok(scalar(@{ $seen{$what} }), "$what: something");
    is_deeply([grep { tainted($_) } @{ $seen{$what} }], [], "$what: not tainted");
}

my $refusing = Trinas::FakeAgent->new(answer => sub { return (409, { error => 'no', hint => 'never' }) })->use_it();
eval { $CLASS->get_identity($scfg, 'vms') };
ok($@ eq "no: never\n" && !tainted($@), 'an error: not tainted');

done_testing();
