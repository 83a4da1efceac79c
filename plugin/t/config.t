#!/usr/bin/perl

# Goal: the plugin fits every version of the storage API that it says it does, and nothing in
# storage.cfg that concerns it harms another storage.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Trinas::TestPVE qw($CLASS $REAL warnings_of);

{
    my $now = PVE::Storage::APIVER();
    for my $case ([9, 15], [10, 10], [11, 11], [12, 12], [13, 13], [14, 14], [15, 15], [16, 15], [40, 15]) {
        my ($version, $want) = @$case;
        no warnings; ## no critic (ProhibitNoWarnings)
        local *PVE::Storage::APIVER = sub { return $version };
        # Proxmox's own is a constant, which is compiled in where it is used.
        is($CLASS->api(), $want, "API $version") if !$REAL;
    }
    is($CLASS->api(), $now, "API $now, this one's") if $now >= 10 && $now <= 15;
}

is($CLASS->type(), 'trinas', 'type');
is_deeply([grep { !m/^trinas-/ } keys %{ $CLASS->properties() }], [], 'own properties have the prefix');
my $known = PVE::Storage::Plugin->private()->{propertyList};
is_deeply([grep { !$known->{$_} } keys %{ $CLASS->options() }], [], 'every option has a property');
{
    local $known->{'snapshot-as-volume-chain'};
    ok(!$CLASS->options()->{'snapshot-as-volume-chain'}, 'an option that this version does not know is left out');
    ok($CLASS->options()->{path} && $CLASS->options()->{'trinas-volume'}, '... and the others stay');
}
my $data = $CLASS->plugindata();
my $subdirs = PVE::Storage::Plugin->get_vtype_subdirs();
is_deeply([grep { !$subdirs->{$_} } keys %{ $data->{content}->[0] }], [], 'content that this version knows');
{
    local $subdirs->{import};
    delete local $subdirs->{import};
    ok(!$CLASS->plugindata()->{content}->[0]->{import}, 'no import where there is none');
}
is_deeply($data->{format}, [{ raw => 1, qcow2 => 1 }, 'raw'], 'formats');
is_deeply($data->{'sensitive-properties'}, {}, 'nothing is secret');

my $made = $CLASS->check_config('vms', { content => 'images' }, 1, 1);
is($made->{path}, '/mnt/pve/vms', 'path');
is($made->{'trinas-volume'}, 'vms', 'volume');
is($made->{shared}, 1, 'shared');
is($made->{preallocation}, 'off', 'no preallocation');
$made = $CLASS->check_config('vms', { path => '/x', 'trinas-volume' => 'v', preallocation => 'falloc', shared => 0 }, 1, 1);
is_deeply([$made->@{qw(path trinas-volume preallocation shared)}], ['/x', 'v', 'falloc', 1], 'given values stay, but shared');
is_deeply([sort keys %{ $CLASS->check_config('vms', { disable => 1 }, 0, 1) }], $REAL ? ['disable', 'type'] : ['disable'],
    'an update sets only what it sets');
is($CLASS->check_config('vms', { shared => 0 }, 0, 1)->{shared}, 1, 'shared cannot be turned off');

SKIP: {
    skip('no real classes: set PVE_PERL', 5) if !$REAL;
    my $text = "trinas: vms\n\tcontent images\n\ttrinas-options soft,!\n\tsurprise 1\n\n"
        . "trinas: other\n\ttrinas-volume ../../etc\n\tcontent rootdir\n\nnfs: nas\n\tserver 192.0.2.1\n\texport /x\n\tcontent iso\n";
    my $cfg;
    my @warnings = warnings_of(sub { $cfg = PVE::Storage::Plugin->parse_config('storage.cfg', $text) });
    is(scalar(grep { m/surprise/ } @warnings), 1, 'an unknown key is told of');
    is($cfg->{ids}->{nas}->{server}, '192.0.2.1', 'the other storage is read');
    is($cfg->{ids}->{vms}->{path}, '/mnt/pve/vms', 'and so is ours');
    is($cfg->{ids}->{other}->{'trinas-volume'}, '../../etc', 'a strange volume is left to the agent');
    my $again = PVE::Storage::Plugin->parse_config('storage.cfg', PVE::Storage::Plugin->write_config('storage.cfg', $cfg));
    is_deeply($again->{ids}->{vms}, $cfg->{ids}->{vms}, 'written and read again');
}

done_testing();
