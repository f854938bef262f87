pub(super) mod hyper_differential;
