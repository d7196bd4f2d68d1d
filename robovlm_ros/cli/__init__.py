"""Commands: collect, finetune, pretrain, evaluate, inspect, convert."""
