class EMAHelper:
    def __init__(self, mu=0.999):
        self.mu, self.shadow = mu, {}

    def register(self, module):
        self.shadow = {name: tensor.data.clone() for name, tensor in module.named_parameters()}

    def update(self, module):
        for name, tensor in module.named_parameters():
            self.shadow[name].lerp_(tensor.data, 1 - self.mu)
